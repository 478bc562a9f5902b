"""One association of the benchmarks' sender: the least that PS3.7 and PS3.8 ask for, and fast."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpus import Image
from benchmarks.plan import NotMeasured

_APPLICATION = b"1.2.840.10008.3.1.1.1"
_EXPLICIT_LITTLE = b"1.2.840.10008.1.2.1"
_IMPLEMENTATION = b"1.2.826.0.1.3680043.10.1"
_ASSOCIATE_AC, _P_DATA = 2, 4  # PS3.8 9.3.1
_CONTEXT = 1
_COMMAND_LAST, _DATA, _DATA_LAST = 3, 0, 2  # message control header (PS3.8 E.2)
_MOST_PIECES = 1000  # of one sendmsg: IOV_MAX is 1024
_UNLIMITED = 1 << 20  # what is sent to a peer that sets no limit
_PATIENCE_SECONDS = 240


@dataclass(frozen=True, slots=True)
class Address:
    """Who is sent to; `namespace` is that of the network where the sender stands."""

    port: int
    called_ae_title: str
    host: str = "127.0.0.1"
    namespace: Path | None = None


class Association:
    """One association with one presentation context, in explicit VR little endian."""

    def __init__(self, address: Address, sop_class_uid: str) -> None:
        self._sop_class_uid = sop_class_uid.encode()
        self._message_id = 0
        whom = (address.host, address.port)
        self._socket = one = socket.create_connection(whom, _PATIENCE_SECONDS)
        # A timeout of Python's makes a poll of each call; the kernel's own does not.
        one.settimeout(None)
        patience = struct.pack("ll", _PATIENCE_SECONDS, 0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.sendall(_request(address.called_ae_title, self._sop_class_uid))
        self._longest = self._accepted(*self._receive())

    def store(self, image: Image) -> None:
        """C-STORE it (PS3.7 9.3.1); NotMeasured unless the answer is success."""
        self._message_id = self._message_id % 0xFFFF + 1
        command = _store_request(
            self._sop_class_uid, image.sop_instance_uid.encode(), self._message_id
        )
        size, most = len(image.data_set), (self._longest - 6) & ~1
        view = memoryview(image.data_set)
        pieces: list[bytes | memoryview] = [_head(len(command), _COMMAND_LAST) + command]
        full = _head(most, _DATA)
        for at in range(0, size, most):
            left = size - at
            pieces.append(full if left > most else _head(left, _DATA_LAST))
            pieces.append(view[at : at + most])
            if len(pieces) >= _MOST_PIECES:
                self._send(pieces)
                pieces = []
        self._send(pieces)
        status = _status(*self._receive())
        if status != 0:
            raise NotMeasured(f"the answer to a C-STORE was {status:#06x}")

    def release(self) -> None:
        """Release it, and wait for the answer (PS3.8 9.3.6)."""
        self._socket.sendall(b"\5\0\0\0\0\4\0\0\0\0")
        self._receive()
        self._socket.close()

    def _send(self, pieces: list[bytes | memoryview]) -> None:
        left = sum(map(len, pieces))
        while left:
            sent = self._socket.sendmsg(pieces)
            left -= sent
            while left and sent >= len(pieces[0]):
                sent -= len(pieces.pop(0))
            if left and sent:
                pieces[0] = memoryview(pieces[0])[sent:]

    def _receive(self) -> tuple[int, bytes]:
        """Read one PDU: its type and what it holds."""
        kind, length = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        # Without it the kernel keeps an acknowledgement back for 40 ms, for which a peer
        # that writes its answer in two pieces waits.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        got = b""
        while len(got) < count:
            some = self._socket.recv(count - len(got))
            if not some:
                raise NotMeasured("the receiver closed the connection")
            got += some
        return got

    def _accepted(self, kind: int, body: bytes) -> int:
        """Read an A-ASSOCIATE-AC (PS3.8 9.3.3): the longest PDU that it allows."""
        if kind != _ASSOCIATE_AC:
            raise NotMeasured(f"no association: PDU {kind}, {body[:4].hex()}")
        longest, at = 0, 68
        while at < len(body):
            item, length = struct.unpack_from(">BxH", body, at)
            value = body[at + 4 : at + 4 + length]
            at += 4 + length
            if item == 0x21 and value[2] != 0:
                raise NotMeasured(f"the presentation context was refused: {value[2]}")
            if item == 0x50:
                longest = _maximum_length(value)
        return longest or _UNLIMITED


def _request(called_ae_title: str, sop_class_uid: bytes) -> bytes:
    """Write an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    syntaxes = _sub_item(0x30, sop_class_uid) + _sub_item(0x40, _EXPLICIT_LITTLE)
    user = _sub_item(0x51, struct.pack(">I", 0)) + _sub_item(0x52, _IMPLEMENTATION)
    titles = struct.pack(">16s16s32x", called_ae_title.encode().ljust(16), b"BLAST".ljust(16))
    body = struct.pack(">HH", 1, 0) + titles + _sub_item(0x10, _APPLICATION)
    body += _sub_item(0x20, bytes((_CONTEXT, 0, 0, 0)) + syntaxes) + _sub_item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


def _sub_item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _maximum_length(user_information: bytes) -> int:
    at = 0
    while at < len(user_information):
        kind, length = struct.unpack_from(">BxH", user_information, at)
        if kind == 0x51:
            return int(struct.unpack_from(">I", user_information, at + 4)[0])
        at += 4 + length
    return 0


def _head(length: int, control: int) -> bytes:
    """Write what precedes one fragment: P-DATA-TF, one PDV (PS3.8 9.3.5)."""
    return struct.pack(">BBIIBB", _P_DATA, 0, length + 6, length + 2, _CONTEXT, control)


def _store_request(sop_class_uid: bytes, sop_instance_uid: bytes, message_id: int) -> bytes:
    """Write the command set of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    body = _element(0x0002, sop_class_uid) + _element(0x0100, b"\1\0")
    body += _element(0x0110, struct.pack("<H", message_id)) + _element(0x0700, b"\0\0")
    body += _element(0x0800, b"\1\0") + _element(0x1000, sop_instance_uid)
    return _element(0x0000, struct.pack("<I", len(body))) + body


def _element(element: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value


def _status(kind: int, body: bytes) -> int:
    """Read the status of a response that came in one P-DATA-TF (PS3.7 9.3.1.2)."""
    at = 6
    while kind == _P_DATA and at < len(body):
        element, length = struct.unpack_from("<2xHI", body, at)
        if element == 0x0900:
            return int(struct.unpack_from("<H", body, at + 8)[0])
        at += 8 + length
    raise NotMeasured(f"no answer to a C-STORE: PDU {kind}")
