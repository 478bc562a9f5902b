"""The connections of one receiving process, and who gives way when there are too many.

A connection that has not asked for an association yet is anybody's; so is one whose
association brings nothing.  When all places are taken the oldest of those is closed, and when
an address has all that it may have, the oldest of its own that asks for nothing: a legitimate
sender finds a place at once, whatever others hold open (PS3.8 does not bind an acceptor to
wait for anybody).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from itertools import chain

from appliance.receiver.shared_counts import MOST_CONNECTIONS, Seat

# Beside those that may be associations: for who comes, asks, and is told.
_PLACES_TO_ASK = 64
# Whoever connects also asks within this, but for one who only holds a place.
_SILENT_SECONDS = 1.0


class Connection:
    """A connection and its place; `socket` is another object once TLS or pynetdicom has it."""

    __slots__ = ("_owner", "address", "has_asked", "is_association", "opened_at", "slot", "socket")

    def __init__(
        self, owner: Connections, connection: socket.socket, address: str, slot: int
    ) -> None:
        self._owner = owner
        self.socket = connection
        self.address = address
        self.slot = slot
        self.opened_at = time.monotonic()
        self.has_asked = False
        self.is_association = False

    def asked(self) -> None:
        """Note that the whole request for an association is there."""
        self._owner.moved(self)

    def leave(self) -> None:
        """Give the place back; again does nothing."""
        self._owner.left(self)

    def cut_reading(self) -> None:
        """End what its thread reads, which may still send a last word."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RD)

    def cut(self) -> None:
        """End the connection, from any thread: who reads from it reads its end."""
        # Its thread may have closed it just now.  Not TLS's own shutdown: that is the thread's.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class Connections:
    """All of one process; `most_associations` gives how many of them may be associations."""

    def __init__(self, seat: Seat, most_associations: Callable[[], int]) -> None:
        self._seat = seat
        self._most_associations = most_associations
        self._lock = threading.Lock()
        self._silent: dict[Connection, None] = {}  # in the order of their coming
        self._asked: dict[Connection, None] = {}

    def is_crowded(self, address: str, most: int) -> bool:
        """Say whether an address has all the connections that it may have; `most` 0 is no limit."""
        return bool(most) and self._seat.table.connections_of(address) >= most

    def take(self, connection: socket.socket, address: str) -> Connection | None:
        """Give a connection a place, if need be that of another; None when all have asked."""
        places = min(self._most_associations() + _PLACES_TO_ASK, MOST_CONNECTIONS)
        with self._lock:
            is_full = len(self._silent) + len(self._asked) >= places
            if is_full and not self._make_room():
                return None
            one = Connection(self, connection, address, self._seat.take(address))
            self._silent[one] = None
        return one

    def moved(self, one: Connection) -> None:
        """Note that one has asked."""
        with self._lock:
            if one in self._silent:
                del self._silent[one]
                self._asked[one] = None
                one.has_asked = True

    def left(self, one: Connection) -> None:
        """Take the place of one back."""
        with self._lock:
            is_here = one in self._silent or one in self._asked
            self._silent.pop(one, None)
            self._asked.pop(one, None)
        if is_here:
            self._seat.give_back(one.slot)

    def give_way(self) -> bool:
        """Close the oldest that has not asked; False when all have."""
        with self._lock:
            return self._make_room()

    def give_way_of(self, address: str) -> bool:
        """Close the oldest of an address that has not asked for a while; False when all have."""
        until = time.monotonic() - _SILENT_SECONDS
        with self._lock:
            oldest = next((one for one in self._silent if one.address == address), None)
            if oldest is None or oldest.opened_at > until:
                return False
            self._close(oldest)
        return True

    def cut_overdue(self, seconds: float) -> None:
        """Close what has not asked for so long; each thread has its own patience as well."""
        until = time.monotonic() - seconds
        with self._lock:
            overdue = [one for one in self._silent if one.opened_at < until]
        for one in overdue:
            one.cut()

    def cut_all(self) -> None:
        """Close every connection that is no association."""
        with self._lock:
            left = list(self._silent)
        for one in left:
            one.cut()

    def _make_room(self) -> bool:
        """Take the place of the oldest that brings nothing; its thread finds it closed."""
        brings_nothing = (one for one in self._asked if not one.is_association)
        oldest = next(chain(self._silent, brings_nothing), None)
        if oldest is None:
            return False
        self._close(oldest)
        return True

    def _close(self, one: Connection) -> None:
        self._silent.pop(one, None)
        self._asked.pop(one, None)
        self._seat.give_back(one.slot)
        one.cut()
