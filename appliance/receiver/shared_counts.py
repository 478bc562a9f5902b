"""What all receiving processes count together: open associations, connections of an address.

One table in memory that the parent makes before it forks.  Each process writes only its own
seat of it and reads all, so that nothing needs a lock, and the parent wipes the seat of one
that died.  Two processes that count at the same moment may each let one more in: the limits
are far below what would hurt.
"""

from __future__ import annotations

import hashlib
import heapq
import mmap
import os
import struct
import threading

MOST_SEATS = 64  # as many as receiver.processes may be
MOST_CONNECTIONS = 2048  # of one process
_TAG_BYTES = 8
_NONE = bytes(_TAG_BYTES)
# All seats' open associations, then all seats' marks: how many of its slots were ever used.
_COUNTS = struct.Struct(f"{MOST_SEATS}I")
_COUNT_BYTES = 4
_MARKS_AT = _COUNTS.size
_SLOTS_AT = 2 * _COUNTS.size
_SEAT_BYTES = MOST_CONNECTIONS * _TAG_BYTES


class Table:
    """The memory; made once, before any fork."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SLOTS_AT + MOST_SEATS * _SEAT_BYTES)
        self._key = os.urandom(16)  # no sender can choose an address with another one's tag

    def open_associations(self) -> int:
        """Count the associations that are open over all processes."""
        return sum(_COUNTS.unpack_from(self._memory, 0))

    def connections_of(self, address: str) -> int:
        """Count the connections of an address over all processes."""
        tag = self.tag(address)
        count = 0
        for seat, used in enumerate(_COUNTS.unpack_from(self._memory, _MARKS_AT)):
            if used:
                at = _SLOTS_AT + seat * _SEAT_BYTES
                count += self._memory[at : at + used * _TAG_BYTES].count(tag)
        return count

    def tag(self, address: str) -> bytes:
        """Give the bytes that stand for an address; never those of an empty slot."""
        return hashlib.blake2b(address.encode(), digest_size=_TAG_BYTES, key=self._key).digest()

    def wipe(self, seat: int) -> None:
        """Take back what a process that is gone held."""
        at = _SLOTS_AT + seat * _SEAT_BYTES
        self._memory[at : at + _SEAT_BYTES] = bytes(_SEAT_BYTES)
        self._set(seat * _COUNT_BYTES, 0)
        self._set(_MARKS_AT + seat * _COUNT_BYTES, 0)

    def _set(self, at: int, number: int) -> None:
        struct.pack_into("I", self._memory, at, number)


class Seat:
    """A process's own part of the table; used by all its threads."""

    def __init__(self, table: Table, number: int) -> None:
        self.table = table
        self.number = number
        self._lock = threading.Lock()
        self._free = list(range(MOST_CONNECTIONS))  # a heap: the lowest is taken first
        self._used = 0
        self._associations = 0
        table.wipe(number)

    def take(self, address: str) -> int:
        """Note a connection of an address; its slot.  IndexError when there is none left."""
        tag = self.table.tag(address)
        with self._lock:
            slot = heapq.heappop(self._free)
            self._write(slot, tag)
            if slot >= self._used:
                self._used = slot + 1
                self.table._set(_MARKS_AT + self.number * _COUNT_BYTES, self._used)
        return slot

    def give_back(self, slot: int) -> None:
        """Note that a connection is gone."""
        with self._lock:
            self._write(slot, _NONE)
            heapq.heappush(self._free, slot)

    def count_association(self, change: int) -> None:
        """Note that an association was opened (1) or has ended (-1)."""
        with self._lock:
            self._associations += change
            self.table._set(self.number * _COUNT_BYTES, self._associations)

    def _write(self, slot: int, tag: bytes) -> None:
        at = _SLOTS_AT + self.number * _SEAT_BYTES + slot * _TAG_BYTES
        self.table._memory[at : at + _TAG_BYTES] = tag
