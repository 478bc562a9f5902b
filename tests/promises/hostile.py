"""What strangers say to the DICOM port, and that others are served meanwhile."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.kit import peers
from tests.kit.dicom import ct_study, write_study
from tests.service.conftest import Receiver
from tests.service.receiver.peer import raw_request

REQUEST = raw_request(b"ECHO", b"CT1")
MEGABYTE = 1_000_000


def connect(receiver: Receiver, source: str = "127.0.0.1") -> socket.socket:
    """Connect from one of this machine's loopback addresses."""
    made = socket.create_connection(("127.0.0.1", receiver.port), 10, (source, 0))
    made.settimeout(20)
    return made


def answer(connection: socket.socket) -> bytes:
    """Read until the other side closes; what it said."""
    said = b""
    with suppress(ConnectionError):
        while some := connection.recv(65536):
            said += some
    return said


def accepted(receiver: Receiver) -> socket.socket:
    """Open an association by hand, for Verification."""
    made = connect(receiver)
    made.sendall(REQUEST)
    head = made.recv(6, socket.MSG_WAITALL)
    assert head[0] == 0x02
    made.recv(struct.unpack(">L", head[2:])[0], socket.MSG_WAITALL)
    return made


def memory(receiver: Receiver) -> int:
    return sum(child.memory_info().rss for child in receiver.children())


def cpu(receiver: Receiver) -> float:
    return sum(sum(child.cpu_times()[:2]) for child in receiver.children())


@contextmanager
def study_passes(receiver: Receiver, folder: Path) -> Iterator[None]:
    """Have storescu send 51 images meanwhile, all acknowledged; who asks is let in within 2 s."""
    files = write_study(ct_study(51, size=64), folder)
    told: list[int] = []
    waits: list[float] = []

    def send() -> None:
        for _ in range(5):
            began = time.monotonic()
            with closing(accepted(receiver)):
                waits.append(time.monotonic() - began)
        told.append(len(peers.storescu(files, receiver.port, "ECHO").acknowledged))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join(120)
    assert told == [51]
    assert max(waits) < 2, "a legitimate association is accepted within 2 s"


def request_of(contexts: int, syntaxes: int, user: bytes = b"") -> bytes:
    """Encode a request of so many contexts and syntaxes, and of more user items."""

    def item(kind: int, body: bytes) -> bytes:
        return bytes([kind, 0]) + struct.pack(">H", len(body)) + body

    listed = b""
    for number in range(contexts):
        names = b"".join(item(0x40, b"1.2.3.%d" % n) for n in range(syntaxes))
        body = bytes([number * 2 % 255 + 1, 0, 0, 0]) + item(0x30, b"1.2.840.10008.1.1") + names
        listed += item(0x20, body[:65535])
    fixed = b"\0\1\0\0" + b"ECHO".ljust(16) + b"FLOOD".ljust(16) + bytes(32)
    own = item(0x50, (item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3") + user)[:65535])
    whole = fixed + item(0x10, b"1.2.840.10008.3.1.1.1") + listed + own
    return b"\x01\x00" + struct.pack(">L", len(whole)) + whole
