"""The TCP connection to another node: every wait has an end, every PDU a longest length.

pynetdicom's SCU waits for ever in `send` when the peer stops reading, and keeps a
whole instance in memory; so PDUs pass through here, and pynetdicom's codecs are used
for negotiation only.

The socket blocks, and the kernel ends each wait after half a second: that asks whether
to go on as often as a poll before each call would, and costs nothing while bytes flow.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Sequence

from appliance.dicom import pdu
from appliance.errors import AssociationFailed
from appliance.router.own_node import Address

# Responses and A-ASSOCIATE-AC are short; a longer announcement is a lie.
LONGEST_PDU_BYTES = 256 * 1024
_WAIT = struct.pack("@ll", 0, 500_000)  # a struct timeval
_RECEIVE_BYTES = 16384
# What the kernel takes at once (IOV_MAX of Linux), less what may be cut.
_MOST_PIECES = 1000
# A slow line is no deaf peer: the patience begins anew with each so many bytes.
_PROGRESS_BYTES = 65536

Piece = bytes | bytearray | memoryview


class Wire:
    """One connection; `peer` names the other side in sentences."""

    def __init__(self, connection: socket.socket, peer: str, must_end: Callable[[], bool]) -> None:
        self.peer = peer
        self._socket = connection
        self._must_end = must_end
        self._received = bytearray()
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _WAIT)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _WAIT)

    def send(self, pieces: Sequence[Piece], patience_seconds: float) -> None:
        """Send all of them, in one call to the kernel where it takes them.

        AssociationFailed when the peer does not take them in time.
        """
        for start in range(0, len(pieces), _MOST_PIECES):
            some = pieces[start : start + _MOST_PIECES]
            left = sum(map(len, some))
            deadline = time.monotonic() + patience_seconds
            taken = 0
            while left:
                try:
                    sent = self._socket.sendmsg(some)
                except BlockingIOError:
                    self._check_time(deadline, "did not take what was sent", patience_seconds)
                    continue
                except OSError as error:
                    raise self._lost(error) from error
                left -= sent
                if not left:
                    break
                some = _rest(some, sent)
                taken += sent
                if taken >= _PROGRESS_BYTES:
                    deadline, taken = time.monotonic() + patience_seconds, 0
                self._check_time(deadline, "did not take what was sent", patience_seconds)

    def read_pdu(self, patience_seconds: float) -> tuple[int, bytes]:
        """Wait for one PDU; give its type and what follows its length."""
        deadline = time.monotonic() + patience_seconds
        self._wait_for(pdu.HEAD_BYTES, deadline, patience_seconds)
        kind, length = pdu.read_head(self._received)
        if length > LONGEST_PDU_BYTES or not 1 <= kind <= 7:
            raise AssociationFailed(
                f"{self.peer} sent what is not DICOM (PDU type {kind}, {length} bytes).",
                remedy="check that a DICOM node listens at that address and port",
            )
        end = pdu.HEAD_BYTES + length
        self._wait_for(end, deadline, patience_seconds)
        body = bytes(self._received[pdu.HEAD_BYTES : end])
        del self._received[:end]
        return kind, body

    def has_ended(self) -> bool:
        """Say whether the peer has sent an abort, or nothing more will come."""
        if self._received:
            return self._received[0] == pdu.ABORT
        try:
            first = self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return first in (b"", bytes([pdu.ABORT]))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _wait_for(self, count: int, deadline: float, patience_seconds: float) -> None:
        """Receive until so many bytes are there."""
        while len(self._received) < count:
            # Linux answers late unless asked each time; DCMTK writes each response in
            # two parts and waits 40 ms for that answer.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            try:
                some = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                self._check_time(deadline, "did not answer", patience_seconds)
                continue
            except OSError as error:
                raise self._lost(error) from error
            if not some:
                raise self._lost(None)
            self._received += some
            if time.monotonic() > deadline:
                self._check_time(deadline, "did not answer", patience_seconds)

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


def _rest(pieces: Sequence[Piece], sent: int) -> list[Piece]:
    """Give what is left of some pieces when so many bytes are gone."""
    for number, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[number + 1 :]]
        sent -= len(piece)
    return []


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
