"""Wait for a whole A-ASSOCIATE-RQ without taking it from the socket.

Who serves it is only known then, and pynetdicom must find the socket untouched.  The kernel
does the waiting (SO_RCVLOWAT, SO_RCVTIMEO): a thread sleeps until all of it is there, and no
drop of bytes keeps it longer than its patience.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass

from appliance.dicom import pdu
from appliance.receiver.request import LONGEST_BYTES

# More than so much may not fit in a socket's receive buffer, as the kernel accounts for it.
_LONGEST_PEEKED = 96 * 1024
_FIRST_PEEK = 16 * 1024


class NoRequest(Exception):
    """What came is no association request; its words are for the log, `answer` for the peer."""

    def __init__(self, words: str, answer: bytes = b"") -> None:
        super().__init__(words)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Peeked:
    """The bytes of a request; they are its beginning when `is_whole` is False."""

    request: bytes
    is_whole: bool


def request_of(
    connection: socket.socket, header_seconds: float, request_seconds: float
) -> Peeked | None:
    """Give a request once it is whole; None when the peer left before it said anything.

    NoRequest when it is something else, or did not come in time.
    """
    began = time.monotonic()
    set_patience(connection, header_seconds)
    seen = _peek(connection, _FIRST_PEEK)
    if 0 < len(seen) < pdu.HEAD_BYTES:
        left = began + header_seconds - time.monotonic()
        seen = _at_least(connection, pdu.HEAD_BYTES, left)
    if not seen:
        if time.monotonic() - began < header_seconds:
            return None
        raise NoRequest("nothing was sent")
    kind, length = _head_of(seen)
    if kind != pdu.ASSOCIATE_RQ:
        raise NoRequest(
            "this is no association request", pdu.abort(pdu.BY_PROVIDER, _why_not(kind))
        )
    if length > LONGEST_BYTES:
        raise NoRequest(
            "the association request is too long", pdu.abort(pdu.BY_PROVIDER, pdu.INVALID_PARAMETER)
        )
    whole = pdu.HEAD_BYTES + length
    if len(seen) < whole <= _LONGEST_PEEKED:
        seen = _at_least(connection, whole, request_seconds)
        if len(seen) < whole:
            raise NoRequest("the association request did not come whole")
    return Peeked(seen[:whole], len(seen) >= whole)


def set_patience(connection: socket.socket, seconds: float) -> None:
    """Have recv(2) and send(2) of a blocking socket give up after so long."""
    # Python's own timeout would make the socket non-blocking, and each recv a poll as well.
    whole = int(seconds)
    value = struct.pack("ll", whole, int((seconds - whole) * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def _head_of(seen: bytes) -> tuple[int, int]:
    # Less than a head may already show that it is none, such as a line of text.
    if seen[0] != pdu.ASSOCIATE_RQ:
        return seen[0], 0
    if len(seen) < pdu.HEAD_BYTES:
        raise NoRequest("the association request did not come whole")
    return pdu.read_head(seen)


def _why_not(kind: int) -> int:
    return pdu.UNEXPECTED_PDU if kind <= pdu.ABORT else pdu.UNRECOGNISED_PDU


def _peek(connection: socket.socket, most: int) -> bytes:
    try:
        return connection.recv(most, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return b""  # the patience is over
    except OSError:
        return b""  # reset, or cut by us


def _at_least(connection: socket.socket, count: int, seconds: float) -> bytes:
    """Peek once so many bytes are there, or the patience is over, or no more will come."""
    set_patience(connection, max(0.001, seconds))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    try:
        return _peek(connection, count)
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
