"""The TCP connection to another node: every wait has an end, every PDU a longest length.

pynetdicom's SCU waits for ever in `send` when the peer stops reading, and keeps a
whole instance in memory; so PDUs pass through here, and pynetdicom's codecs are used
for negotiation only.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

from appliance.errors import AssociationFailed
from appliance.router.own_node import Address

ABORT = 0x07
# Responses and A-ASSOCIATE-AC are short; a longer announcement is a lie.
LONGEST_PDU_BYTES = 256 * 1024
_SLICE_SECONDS = 0.5
_RECEIVE_BUFFER = 65536


class Wire:
    """One connection; `peer` names the other side in sentences."""

    def __init__(self, connection: socket.socket, peer: str, must_end: Callable[[], bool]) -> None:
        self.peer = peer
        self._socket = connection
        self._must_end = must_end
        self._received = bytearray()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_SLICE_SECONDS)

    def send(self, pdu: bytes | bytearray, patience_seconds: float) -> None:
        """Send all of it; AssociationFailed when the peer does not take it in time."""
        deadline = time.monotonic() + patience_seconds
        rest = memoryview(pdu)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                self._check_time(deadline, "did not take what was sent", patience_seconds)
            except OSError as error:
                raise self._lost(error) from error

    def read_pdu(self, patience_seconds: float) -> tuple[int, bytes]:
        """Wait for one PDU; give its type and what follows its length."""
        deadline = time.monotonic() + patience_seconds
        kind, _, length = struct.unpack(">BBL", self._take(6, deadline, patience_seconds))
        if length > LONGEST_PDU_BYTES or not 1 <= kind <= 7:
            raise AssociationFailed(
                f"{self.peer} sent what is not DICOM (PDU type {kind}, {length} bytes).",
                remedy="check that a DICOM node listens at that address and port",
            )
        return kind, self._take(length, deadline, patience_seconds)

    def has_ended(self) -> bool:
        """Say whether the peer has sent an abort, or nothing more will come."""
        if not self._received and select.select([self._socket], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                first = self._socket.recv(1, socket.MSG_PEEK)
                return first in (b"", bytes([ABORT]))
            return True
        return self._received[:1] == bytes([ABORT])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _take(self, count: int, deadline: float, patience_seconds: float) -> bytes:
        while len(self._received) < count:
            # Linux answers late unless asked each time; DCMTK writes each response in
            # two parts and waits 40 ms for that answer.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            try:
                some = self._socket.recv(_RECEIVE_BUFFER)
            except TimeoutError:
                self._check_time(deadline, "did not answer", patience_seconds)
                continue
            except OSError as error:
                raise self._lost(error) from error
            if not some:
                raise self._lost(None)
            self._received += some
            if time.monotonic() > deadline:
                self._check_time(deadline, "did not answer", patience_seconds)
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _check_time(self, deadline: float, what: str, patience_seconds: float) -> None:
        if self._must_end():
            raise AssociationFailed(
                f"Sending to {self.peer} was stopped in the middle.", remedy="nothing: it goes on"
            )
        if time.monotonic() > deadline:
            raise AssociationFailed(
                f"{self.peer} {what} within {patience_seconds:g} s.",
                remedy="ask whether that node is overloaded",
            )

    def _lost(self, error: OSError | None) -> AssociationFailed:
        how = f": {error.strerror or error}" if error else ""
        return AssociationFailed(
            f"{self.peer} closed the connection{how}.", remedy="read that node's log"
        )


def connect(
    addresses: Sequence[Address],
    port: int,
    peer: str,
    patience_seconds: float,
    must_end: Callable[[], bool],
) -> Wire:
    """Connect to the first of these addresses that accepts; AssociationFailed when none does."""
    deadline = time.monotonic() + patience_seconds
    problem: OSError | None = None
    for address in addresses:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            return Wire(socket.create_connection((str(address), port), left), peer, must_end)
        except TimeoutError as error:
            problem = problem or error
        except OSError as error:
            problem = error
    raise AssociationFailed(_why_not(peer, problem, patience_seconds), remedy=_what_to_try(problem))


def _why_not(peer: str, problem: OSError | None, patience_seconds: float) -> str:
    if isinstance(problem, ConnectionRefusedError):
        return f"{peer} refused the connection: nothing listens on that port."
    if isinstance(problem, TimeoutError):
        return f"{peer} could not be reached: no answer within {patience_seconds:g} s."
    return f"{peer} could not be reached: {problem.strerror if problem else 'no address'}."


def _what_to_try(problem: OSError | None) -> str:
    if isinstance(problem, ConnectionRefusedError):
        return "start that node, or correct its port in routing.yaml"
    return "check the host in routing.yaml, the network and the firewalls between"
