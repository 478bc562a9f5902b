"""AT-01 to AT-05: what strangers may do to the DICOM port, and that others are served meanwhile."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.kit import peers
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate, c_store, raw_request, wire

_REQUEST = raw_request(b"ECHO", b"CT1")
_P_DATA, _ABORT = 0x04, 0x07
_MEGABYTE = 1_000_000


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
    made.sendall(_REQUEST)
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


def lies(receiver: Receiver) -> dict[str, Callable[[], socket.socket]]:
    """Name connections that lie about a length, each ready to be read from."""

    def before(pdu: bytes) -> Callable[[], socket.socket]:
        def speak() -> socket.socket:
            made = connect(receiver)
            made.sendall(pdu)
            return made

        return speak

    def after(pdu: bytes) -> Callable[[], socket.socket]:
        def speak() -> socket.socket:
            made = accepted(receiver)
            made.sendall(pdu)
            return made

        return speak

    item = bytearray(_REQUEST)
    at = _REQUEST.index(b"\x20\x00", 74)  # the first presentation context
    item[at + 2 : at + 4] = b"\xff\xff"
    return {
        "a request of 4 GiB": before(b"\x01\x00" + struct.pack(">L", 0xFFFFFFFF) + _REQUEST[6:]),
        "a request of 200 MB": before(b"\x01\x00" + struct.pack(">L", 200_000_000) + bytes(4096)),
        "a context longer than its request": before(bytes(item)),
        "P-DATA of 4 GiB": after(struct.pack(">BBLLBB", _P_DATA, 0, 0xFFFFFFFF, 10, 1, 3)),
        "a PDV longer than its PDU": after(
            struct.pack(">BBLLBB", _P_DATA, 0, 12, 5000, 1, 3) + bytes(6)
        ),
        "a PDV of nothing": after(struct.pack(">BBLLBB", _P_DATA, 0, 6, 0, 1, 3)),
        "a PDV of one byte": after(struct.pack(">BBLLBB", _P_DATA, 0, 6, 1, 1, 3)),
        "a command element longer than its command": after(
            struct.pack(">BBLLBB", _P_DATA, 0, 14, 10, 1, 3) + struct.pack("<HHL", 0, 0, 0xFFFFFFF0)
        ),
    }


def test_at_01_lies_about_lengths_end_with_the_association(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    assert peers.echoscu(receiver.port, "ECHO")
    before = memory(receiver)
    with study_passes(receiver, tmp_path / "sent"):
        for what, speak in lies(receiver).items():
            with closing(speak()) as liar:
                said = answer(liar)
            assert said[:1] in (b"", b"\x03", bytes([_ABORT])), what
    assert memory(receiver) - before < 5 * _MEGABYTE * len(lies(receiver))


def test_at_01_a_connection_costs_little_memory(receiver: Receiver) -> None:
    receiver.start()
    with closing(accepted(receiver)):
        before = memory(receiver)
    many = [accepted(receiver) for _ in range(12)]
    for one in many:
        one.sendall(struct.pack(">BBLLBB", _P_DATA, 0, 100_000, 99_996, 1, 1) + bytes(50_000))
    wait_for(lambda: peers.echoscu(receiver.port, "ECHO"), "it answers others")
    assert memory(receiver) - before < 5 * _MEGABYTE * len(many)
    for one in many:
        one.close()


@pytest.mark.parametrize("addresses", [1, 50])
def test_at_02_five_hundred_slow_connections_keep_nobody_out(
    receiver: Receiver, tmp_path: Path, addresses: int
) -> None:
    receiver.start()
    stop = threading.Event()
    slow: list[socket.socket] = []
    for number in range(500):
        source = f"127.0.1.{1 + number % addresses}"
        with suppress(OSError):
            one = connect(receiver, source)
            slow.append(one)
            with suppress(OSError):
                one.sendall((b"", _REQUEST[:3], _REQUEST[:40])[number % 3])

    def drip() -> None:
        at = 40
        while not stop.wait(1.0):
            for one in slow[2::3]:
                with suppress(OSError):
                    one.send(_REQUEST[at : at + 1])
            at += 1

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        with study_passes(receiver, tmp_path / "sent"):
            pass
        wait_for(lambda: all(is_closed(one) for one in slow), "all of them are closed", 60)
    finally:
        stop.set()
        dripping.join(10)
        for one in slow:
            one.close()
    assert len(receiver.instances()) == 51


def is_closed(connection: socket.socket) -> bool:
    """Say whether the other side has closed or reset it."""
    connection.setblocking(False)
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        with suppress(OSError):
            connection.setblocking(True)


def test_at_02_a_data_set_that_drips_is_given_up(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "node", {"receiver": {"network_timeout_seconds": 4}})
    try:
        receiver.start()
        file = write(ct_slice(size=256), tmp_path / "a.dcm")
        ds = ct_slice(size=256)
        assoc = associate(receiver)
        connection = wire(assoc)
        pdus = b"".join(c_store(ds.SOPClassUID, ds.SOPInstanceUID, file.read_bytes()[400:]))
        connection.sendall(pdus[:5000])
        wait_for(lambda: not assoc.is_established, "it is aborted", 60)
        wait_for(lambda: receiver.waiting() == [], "nothing of it is left")
        assert receiver.instances() == []
        assoc.abort(block=False)
    finally:
        receiver.db.close()
        if receiver.is_alive():
            receiver.kill()


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


def test_at_03_floods_of_large_requests_cost_little(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    identity = bytes([0x58, 0]) + struct.pack(">H", 60_000) + b"\x01\x00" + b"x" * 59_998
    floods = [
        request_of(128, 500),
        request_of(128, 40),
        request_of(1, 1, bytes([0x55, 0, 0, 4]) + b"x" * 4 + bytes(60_000)),
        request_of(1, 1, identity),
        request_of(200, 1),
    ]
    began = cpu(receiver)
    with study_passes(receiver, tmp_path / "sent"):
        for number in range(40):
            with closing(connect(receiver, "127.0.2.1")) as one:
                with suppress(OSError):
                    one.sendall(floods[number % len(floods)])
                    one.shutdown(socket.SHUT_WR)
                answer(one)
    assert cpu(receiver) - began < 15, "each of them costs a fraction of a second"
    assert len(receiver.instances()) == 51


def garbage() -> dict[str, bytes]:
    """Name what is no DICOM, or no PDU that may come first."""
    found = {f"PDU type {kind}": bytes([kind, 0, 0, 0, 0, 4, 0, 0, 0, 0]) for kind in range(2, 9)}
    return found | {
        "random bytes": os.urandom(2000),
        "HTTP": b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(508),
    }


def test_at_04_garbage_is_closed_and_told_of_once_a_minute(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    source = "127.0.3.1"
    with study_passes(receiver, tmp_path / "sent"):
        for what, said in garbage().items():
            with closing(connect(receiver, source)) as one:
                began = time.monotonic()
                with suppress(OSError):
                    one.sendall(said)
                answer(one)
                assert time.monotonic() - began < 15, what
    lines = [line for line in receiver.text().splitlines() if source in line]
    assert 1 <= len(lines) <= 2, "one line per process for that peer: " + "\n".join(lines)
    assert all(psutil.pid_exists(child.pid) for child in receiver.children())


def test_at_05_an_endless_data_set_is_cut_off(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path / "node", {"receiver": {"max_instance_mb": 2}})
    try:
        receiver.start()
        ds = ct_slice(size=64)
        file = write(ds, tmp_path / "a.dcm")
        assoc = associate(receiver)
        connection = wire(assoc)
        [command, *_] = c_store(ds.SOPClassUID, ds.SOPInstanceUID, file.read_bytes()[400:])
        connection.sendall(command)
        pdu = struct.pack(">BBLLBB", _P_DATA, 0, 16006, 16002, 1, 0) + bytes(16000)
        sent = 0
        with suppress(OSError):
            while sent < 200 * _MEGABYTE:
                connection.sendall(pdu)
                sent += len(pdu)
        assert sent < 200 * _MEGABYTE, "it was never cut off"
        wait_for(lambda: receiver.waiting() == [], "nothing of it is left")
        assert receiver.instances() == []
        assert peers.echoscu(receiver.port, "ECHO")
        assoc.abort(block=False)
    finally:
        receiver.db.close()
        if receiver.is_alive():
            receiver.kill()
