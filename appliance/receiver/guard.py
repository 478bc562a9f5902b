"""What pynetdicom reads from, guarded: it buffers whatever length a PDU announces.

A socket that checks the heads of PDUs as they are read: their types and lengths (PS3.8 9.3)
before and after the association, the items of its request, and the time that one takes.
What breaks them is answered with A-ABORT and ends the connection.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from appliance.dicom import pdu
from appliance.receiver.connections import Connection
from appliance.receiver.request import LONGEST_BYTES, Malformed, path_of

_LONGEST_OTHER_BYTES = 64  # release and abort have four
_LONGEST_UNLIMITED = 16 << 20  # where no maximum was announced: it is held in memory
_TOLERANCE_BYTES = 12  # some peers do not count the heads (PS3.8 D.1)


class Violation(Exception):
    """A PDU that may not come; `reason` is of PS3.8 9.3.8, the words are for the log."""

    def __init__(self, words: str, reason: int) -> None:
        super().__init__(words)
        self.reason = reason


class Guard:
    """Follows the PDUs in what one connection brings; the clock is an argument."""

    def __init__(
        self, max_pdu_bytes: int, pdu_seconds: float, asked: Callable[[], None] = lambda: None
    ) -> None:
        self._longest = max_pdu_bytes + _TOLERANCE_BYTES if max_pdu_bytes else _LONGEST_UNLIMITED
        self._pdu_seconds = pdu_seconds
        self._asked = asked
        self._head = b""
        self._request = bytearray()  # until it is whole
        self._left = 0  # bytes of the PDU that is read
        self._began_at = 0.0
        self._is_request = True

    def take(self, data: bytes, now: float) -> None:
        """Note bytes in the order that they are read; Violation at the first that breaks a rule."""
        while data:
            if not self._head:
                self._began_at = now
            if len(self._head) < pdu.HEAD_BYTES:
                count = pdu.HEAD_BYTES - len(self._head)
                self._head += data[:count]
                data = data[count:]
                if len(self._head) < pdu.HEAD_BYTES:
                    break
                self._left = self._length()
            count = min(self._left, len(data))
            self._left -= count
            if self._is_request:
                self._request += data[:count]
            data = data[count:]
            if self._left == 0:
                self._ended()
        if self._head and now - self._began_at > self._pdu_seconds:
            raise Violation("a PDU did not come whole in time", pdu.NOT_SPECIFIED)

    def _length(self) -> int:
        kind, length = pdu.read_head(self._head)
        if self._is_request:
            if kind != pdu.ASSOCIATE_RQ:
                is_known = kind <= pdu.ABORT
                raise Violation(
                    "this is no association request",
                    pdu.UNEXPECTED_PDU if is_known else pdu.UNRECOGNISED_PDU,
                )
            longest = LONGEST_BYTES
        else:
            longest = self._longest if kind == pdu.P_DATA_TF else _LONGEST_OTHER_BYTES
        if length > longest:
            raise Violation(f"a PDU of {length} bytes", pdu.INVALID_PARAMETER)
        return length

    def _ended(self) -> None:
        if self._is_request:
            self._check(self._head + self._request)
            self._is_request = False
            self._request.clear()
            self._asked()
        self._head = b""

    def _check(self, request: bytes) -> None:
        """Count what pynetdicom is to decode: who peeks sees neither TLS nor all of a long one."""
        try:
            path_of(request)
        except Malformed as error:
            raise Violation(str(error), pdu.INVALID_PARAMETER) from error


class _Guarded:
    """The two sockets below; `watch_over` is called once, before pynetdicom reads."""

    guard: Guard | None = None
    connection: Connection | None = None
    told: Callable[[str, str], None] | None = None

    def watch_over(
        self, guard: Guard, connection: Connection, told: Callable[[str, str], None]
    ) -> None:
        """Check what is read; `told` gets the address and words of a violation."""
        self.guard, self.connection, self.told = guard, connection, told
        connection.socket = self  # type: ignore[assignment]

    def recv(self, count: int, flags: int = 0) -> bytes:
        """Read as a socket does; ConnectionAbortedError after a violation."""
        data: bytes = super().recv(count, flags)  # type: ignore[misc]
        if self.guard is None:
            return data
        try:
            self.guard.take(data, time.monotonic())
        except Violation as violation:
            self._refuse(violation)
            raise ConnectionAbortedError(str(violation)) from violation
        return data

    def shutdown(self, how: int) -> None:
        """Shut down; that the peer was first is no error.  pynetdicom would not close then."""
        with contextlib.suppress(OSError):
            super().shutdown(how)  # type: ignore[misc]

    def close(self) -> None:
        """Close, and give the connection's place back."""
        super().close()  # type: ignore[misc]
        if self.connection is not None:
            self.connection.leave()

    def _refuse(self, violation: Violation) -> None:
        if self.told is not None and self.connection is not None:
            self.told(self.connection.address, str(violation))
        with contextlib.suppress(OSError):
            answer = pdu.abort(pdu.BY_PROVIDER, violation.reason)
            super().send(answer)  # type: ignore[misc]


class GuardedSocket(_Guarded, socket.socket):
    """A connection as it is."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(
            connection.family, connection.type, connection.proto, fileno=connection.detach()
        )


class GuardedTlsSocket(_Guarded, ssl.SSLSocket):  # type: ignore[misc]
    """A connection over TLS; made by its context (`ssl.SSLContext.sslsocket_class`)."""

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
