"""AT-01, AT-02, AT-04, AT-05: what strangers may do to the DICOM port while others are served.

AT-03, whose floods are well-formed, is `test_request_floods`.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from tests.kit import peers
from tests.kit.dicom import ct_slice, write
from tests.kit.waiting import wait_for
from tests.promises.hostile import (
    MEGABYTE,
    REQUEST,
    accepted,
    answer,
    connect,
    memory,
    study_passes,
)
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate, c_store, wire

_P_DATA, _ABORT = 0x04, 0x07


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

    item = bytearray(REQUEST)
    at = REQUEST.index(b"\x20\x00", 74)  # the first presentation context
    item[at + 2 : at + 4] = b"\xff\xff"
    return {
        "a request of 4 GiB": before(b"\x01\x00" + struct.pack(">L", 0xFFFFFFFF) + REQUEST[6:]),
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
    assert memory(receiver) - before < 5 * MEGABYTE * len(lies(receiver))


def test_at_01_a_connection_costs_little_memory(receiver: Receiver) -> None:
    receiver.start()
    with closing(accepted(receiver)):
        before = memory(receiver)
    many = [accepted(receiver) for _ in range(12)]
    for one in many:
        one.sendall(struct.pack(">BBLLBB", _P_DATA, 0, 100_000, 99_996, 1, 1) + bytes(50_000))
    wait_for(lambda: peers.echoscu(receiver.port, "ECHO"), "it answers others")
    assert memory(receiver) - before < 5 * MEGABYTE * len(many)
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
                one.sendall((b"", REQUEST[:3], REQUEST[:40])[number % 3])

    def drip() -> None:
        at = 40
        while not stop.wait(1.0):
            for one in slow[2::3]:
                with suppress(OSError):
                    one.send(REQUEST[at : at + 1])
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
            while sent < 200 * MEGABYTE:
                connection.sendall(pdu)
                sent += len(pdu)
        assert sent < 200 * MEGABYTE, "it was never cut off"
        wait_for(lambda: receiver.waiting() == [], "nothing of it is left")
        assert receiver.instances() == []
        assert peers.echoscu(receiver.port, "ECHO")
        assoc.abort(block=False)
    finally:
        receiver.db.close()
        if receiver.is_alive():
            receiver.kill()
