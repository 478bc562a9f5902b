"""An SCU that cuts what it sends wherever a test wants: it shares no line with the node.

A message is a command set and a data set; each is cut into fragments, each fragment is a PDV,
PDVs share PDUs, and PDUs are cut once more into what is written to the socket at a time
(PS3.8 annex D, PS3.7 6.3).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

APPLICATION = b"1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
COMMAND, DATA_SET, LAST = 1, 0, 2  # message control header (PS3.8 E.2)
C_STORE, C_ECHO, C_CANCEL = 0x0001, 0x0030, 0x0FFF
RELEASE_RQ, RELEASE_RP, ABORT = 5, 6, 7
MAXIMUM_LENGTH, IMPLEMENTATION, ASYNCHRONOUS, ROLES, EXTENDED, COMMON = (
    0x51, 0x52, 0x53, 0x54, 0x56, 0x57,
)  # fmt: skip

Sizes = Callable[[], int]


class Refused(Exception):
    """The peer answered something else than what a test needs to go on."""


@dataclass(frozen=True, slots=True)
class Response:
    """A DIMSE response, as far as tests ask."""

    field: int
    message_id: int
    status: int
    context_id: int


@dataclass(slots=True)
class Cut:
    """How a message is cut; every size is asked for anew, in bytes.

    `pdvs` says how many PDVs share a PDU, which may hold command and data set; `ends_empty`
    that the last fragment of each is an empty one; `writes` how much is written at a time.
    """

    command: Sizes = lambda: 1 << 20
    data_set: Sizes = lambda: 16_000
    pdvs: Sizes = lambda: 1
    writes: Sizes = lambda: 1 << 20
    ends_empty: bool = False
    joins_messages: bool = field(default=False)  # command and data set may share a PDU

    def pdus(self, context_id: int, command: bytes, data_set: bytes | None) -> bytes:
        """Write a message as P-DATA-TF PDUs (PS3.8 9.3.5)."""
        of_command = list(self._fragments(context_id, COMMAND, command, self.command))
        of_data_set = (
            []
            if data_set is None
            else list(self._fragments(context_id, DATA_SET, data_set, self.data_set))
        )
        if self.joins_messages:
            return self._in_pdus(of_command + of_data_set)
        return self._in_pdus(of_command) + self._in_pdus(of_data_set)

    def pieces(self, stream: bytes) -> Iterator[bytes]:
        """Give what is written to the socket at a time."""
        at = 0
        while at < len(stream):
            count = self.writes()
            yield stream[at : at + count]
            at += count

    def _fragments(self, context_id: int, kind: int, whole: bytes, sizes: Sizes) -> Iterator[bytes]:
        at, is_last = 0, False
        while not is_last:
            fragment = whole[at : (at := at + sizes())]
            is_last = at >= len(whole)
            mark = LAST if is_last and not self.ends_empty else 0
            yield pdv(context_id, kind | mark, fragment)
        if self.ends_empty:
            yield pdv(context_id, kind | LAST, b"")

    def _in_pdus(self, pdvs: Sequence[bytes]) -> bytes:
        made, at = [], 0
        while at < len(pdvs):
            body = b"".join(pdvs[at : (at := at + self.pdvs())])
            made.append(pdu(4, body))
        return b"".join(made)


class RawSCU:
    """One association on 127.0.0.1; `contexts` gives transfer syntaxes by (number, abstract).

    `source` is the address that it comes from, one of this machine's loopback addresses.
    """

    def __init__(
        self,
        port: int,
        contexts: Mapping[tuple[int, str], Sequence[str]],
        *,
        called: str = "ECHO",
        calling: str = "RAW",
        max_pdu: int = 0,
        user_items: bytes = b"",
        patience_seconds: float = 60,
        source: str = "127.0.0.1",
    ) -> None:
        own = (source, 0)
        self.socket = socket.create_connection(("127.0.0.1", port), patience_seconds, own)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message_id = 0
        self._buffer = b""
        self.socket.sendall(request(contexts, called, calling, max_pdu, user_items))
        kind, body = self.receive()
        if kind != 2:
            self.socket.close()
            raise Refused(f"PDU {kind}: {body[:4].hex()}")
        self.accepted: dict[int, str] = {}  # transfer syntax by presentation context ID
        self.results: dict[int, int] = {}
        self.user_items: dict[int, bytes] = {}
        self._read_answer(body)

    # -- messages -------------------------------------------------------------------------------

    def store(
        self, data_set: bytes, sop_class: str, sop_instance: str, context_id: int = 1,
        cut: Cut | None = None,
    ) -> int:  # fmt: skip
        """C-STORE a data set; the status that it is answered with."""
        cut = cut or Cut()
        stream = self.store_stream(data_set, sop_class, sop_instance, context_id, cut)
        for piece in cut.pieces(stream):
            self.socket.sendall(piece)
        answer = self.response()
        if (answer.field, answer.message_id) != (C_STORE | 0x8000, self._message_id):
            raise Refused(str(answer))
        return answer.status

    def store_stream(
        self, data_set: bytes, sop_class: str, sop_instance: str, context_id: int, cut: Cut
    ) -> bytes:
        """Give the bytes of a C-STORE request with its data set; nothing is sent."""
        self._message_id += 1
        command = store_command(sop_class, sop_instance, self._message_id)
        return cut.pdus(context_id, command, data_set)

    def echo(self, context_id: int, cut: Cut | None = None) -> int:
        """C-ECHO; the status."""
        self._message_id += 1
        command = simple_command(C_ECHO, VERIFICATION, self._message_id)
        cut = cut or Cut()
        for piece in cut.pieces(cut.pdus(context_id, command, None)):
            self.socket.sendall(piece)
        answer = self.response()
        if (answer.field, answer.message_id) != (C_ECHO | 0x8000, self._message_id):
            raise Refused(str(answer))
        return answer.status

    def cancel(self, context_id: int, message_id: int) -> None:
        """C-CANCEL a message (PS3.7 9.3.2.3); there is no answer."""
        self.socket.sendall(Cut().pdus(context_id, cancel_command(message_id), None))

    def response(self) -> Response:
        """Read one response, however its PDVs come."""
        command = b""
        while True:
            kind, body = self.receive()
            if kind != 4:
                raise Refused(f"PDU {kind}: {body.hex()}")
            at = 0
            while at < len(body):
                length, context_id, control = struct.unpack_from(">LBB", body, at)
                command += body[at + 6 : at + 4 + length]
                at += 4 + length
                if control & LAST:
                    found = elements(command)
                    return Response(
                        number(found[0x0100]), number(found[0x0120]), number(found[0x0900]),
                        context_id,
                    )  # fmt: skip

    # -- the association ------------------------------------------------------------------------

    def receive(self) -> tuple[int, bytes]:
        """Read one PDU: its type, and what follows its head; (0, b"") when the peer closed."""
        head = self._exactly(6)
        if not head:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._exactly(length)

    def release(self) -> None:
        """A-RELEASE, and wait for its answer."""
        self.socket.sendall(pdu(RELEASE_RQ, bytes(4)))
        kind, _ = self.receive()
        self.socket.close()
        if kind != RELEASE_RP:
            raise Refused(f"PDU {kind} for an A-RELEASE-RQ")

    def abort(self) -> None:
        """A-ABORT, as the service user."""
        self.socket.sendall(pdu(ABORT, bytes(4)))
        self.socket.close()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close the connection without a word."""
        self.socket.close()

    def __enter__(self) -> RawSCU:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            some = self.socket.recv(65536)
            if not some:
                return b""
            self._buffer += some
        got, self._buffer = self._buffer[:count], self._buffer[count:]
        return got

    def _read_answer(self, body: bytes) -> None:
        for kind, value in items(body[68:]):
            if kind == 0x21:
                self.results[value[0]] = value[2]
                if value[2] == 0:
                    self.accepted[value[0]] = dict(items(value[4:]))[0x40].decode()
            elif kind == 0x50:
                self.user_items = dict(items(value))


# -- the bytes ----------------------------------------------------------------------------------


def request(
    contexts: Mapping[tuple[int, str], Sequence[str]],
    called: str = "ECHO",
    calling: str = "RAW",
    max_pdu: int = 0,
    user_items: bytes = b"",
) -> bytes:
    """Write an A-ASSOCIATE-RQ (PS3.8 9.3.2)."""
    body = struct.pack(">HH", 1, 0) + called.encode().ljust(16) + calling.encode().ljust(16)
    body += bytes(32) + item(0x10, APPLICATION)
    for (context_id, abstract), transfer in contexts.items():
        syntaxes = b"".join(item(0x40, one.encode()) for one in transfer)
        value = bytes((context_id, 0, 0, 0)) + item(0x30, abstract.encode()) + syntaxes
        body += item(0x20, value)
    user = item(MAXIMUM_LENGTH, struct.pack(">L", max_pdu)) + item(IMPLEMENTATION, b"1.2.3.4")
    return pdu(1, body + item(0x50, user + user_items))


def roles(sop_class: str, scu: int, scp: int) -> bytes:
    """Write an SCP/SCU role selection sub-item (PS3.7 D.3.3.4)."""
    uid = sop_class.encode()
    return item(ROLES, struct.pack(">H", len(uid)) + uid + bytes((scu, scp)))


def extended(sop_class: str, information: bytes) -> bytes:
    """Write a SOP class extended negotiation sub-item (PS3.7 D.3.3.5)."""
    uid = sop_class.encode()
    return item(EXTENDED, struct.pack(">H", len(uid)) + uid + information)


def store_command(sop_class: str, sop_instance: str, message_id: int) -> bytes:
    """Write the command set of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return _command(
        (0x0002, sop_class.encode()),
        (0x0100, struct.pack("<H", C_STORE)),
        (0x0110, struct.pack("<H", message_id)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 1)),
        (0x1000, sop_instance.encode()),
    )


def simple_command(kind: int, sop_class: str, message_id: int) -> bytes:
    """Write the command set of a request without a data set."""
    return _command(
        (0x0002, sop_class.encode()),
        (0x0100, struct.pack("<H", kind)),
        (0x0110, struct.pack("<H", message_id)),
        (0x0800, struct.pack("<H", 0x0101)),
    )


def cancel_command(message_id: int) -> bytes:
    """Write the command set of a C-CANCEL-RQ."""
    return _command(
        (0x0100, struct.pack("<H", C_CANCEL)),
        (0x0120, struct.pack("<H", message_id)),
        (0x0800, struct.pack("<H", 0x0101)),
    )


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def pdv(context_id: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def items(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        yield kind, body[at + 4 : at + 4 + length]
        at += 4 + length


def elements(command: bytes) -> dict[int, bytes]:
    """Read a command set: values by element number of group 0000."""
    found, at = {}, 0
    while at < len(command):
        element, length = struct.unpack_from("<2xHL", command, at)
        found[element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def number(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _command(*values: tuple[int, bytes]) -> bytes:
    body = b""
    for element, value in values:
        value += b"\0" * (len(value) % 2)
        body += struct.pack("<HHL", 0, element, len(value)) + value
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body
