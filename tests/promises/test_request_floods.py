"""AT-03: floods of requests, large ones and small ones, while others are served.

No rate is limited for an address.  What it may have open at once is
(`receiver.max_connections_per_address`), and that bounds what its requests cost: each is
answered before the next one finds a place.  A rate would refuse a modality that opens an
association for each image, and one address that asks as fast as it can keeps nobody out.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.kit import raw_scu
from tests.kit.certificates import Authority
from tests.kit.waiting import free_port, wait_for
from tests.promises.hostile import (
    MEGABYTE,
    answer,
    connect,
    cpu,
    memory,
    request_of,
    study_passes,
)
from tests.service.conftest import Receiver
from tests.service.receiver.sent import ct_of

_ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x06"  # by the provider: invalid parameter value
_TOO_MANY = "PDU 3: 00020302"
_CT = {(1, str(CTImageStorage)): [str(ExplicitVRLittleEndian)]}


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


def over_the_caps() -> dict[str, bytes]:
    """Name requests of more items than anybody needs, each too long to be peeked at."""
    role = raw_scu.roles(str(CTImageStorage), 1, 1)
    return {
        "9,000 transfer syntaxes": request_of(128, 70),
        "1,900 roles": request_of(128, 32, role * 1900),
    }


@pytest.fixture
def ways(receiver: Receiver, tmp_path: Path) -> dict[str, Callable[[], socket.socket]]:
    """Connect to a receiver that runs: as it is, or over TLS."""
    authority = Authority(tmp_path / "ca")
    own, port = authority.sign("node"), free_port()
    receiver.settings = {
        "receiver": {
            "tls_port": port, "tls_certificate_file": str(own.certificate),
            "tls_key_file": str(own.key),
        }
    }  # fmt: skip
    receiver.write_settings()
    receiver.start()
    context = ssl.create_default_context(cafile=str(authority.own.certificate))

    def secured() -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port), 20, ("127.0.2.2", 0))
        return context.wrap_socket(made, server_hostname="127.0.0.1")

    return {"plain": lambda: connect(receiver, "127.0.2.1"), "TLS": secured}


def first_pdu(connection: socket.socket) -> bytes:
    """Read the first ten bytes that are said: the whole of a rejection or an abort."""
    said = b""
    while len(said) < 10 and (some := connection.recv(10 - len(said))):
        said += some
    return said


@pytest.mark.parametrize("way", ["plain", "TLS"])
def test_at_03_items_are_counted_in_what_pynetdicom_is_to_read(
    receiver: Receiver, ways: dict[str, Callable[[], socket.socket]], tmp_path: Path, way: str
) -> None:
    """What is too long to be peeked at, or comes over TLS, goes to pynetdicom: not uncounted."""
    assert all(96 * 1024 < len(one) < 128 * 1024 for one in over_the_caps().values())
    before, began, count = memory(receiver), cpu(receiver), 0
    with study_passes(receiver, tmp_path / "sent"):
        for _ in range(10):
            for what, request in over_the_caps().items():
                with closing(ways[way]()) as one:
                    one.sendall(request)
                    assert first_pdu(one) == _ABORT, what
                count += 1
    assert memory(receiver) - before < 5 * MEGABYTE * count / 2
    assert cpu(receiver) - began < 0.1 * count + 5, "none of them is decoded"
    assert len(receiver.instances()) == 51


class Flood:
    """Complete associations of one address, by many threads at once; what became of each."""

    def __init__(self, port: int, threads: int, serve: Callable[[Flood, int], None]) -> None:
        self.port = port
        self.told: Counter[str] = Counter()
        self._serve = serve
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Have them come and go meanwhile."""
        for one in self._threads:
            one.start()
        try:
            yield
        finally:
            self._stop.set()
            for one in self._threads:
                one.join(60)

    def pause(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                self._serve(self, number)
                self.told["served"] += 1
            except raw_scu.Refused as refused:
                self.told[str(refused)] += 1
                self.pause(0.02)
            except OSError:
                self.told["closed"] += 1
                self.pause(0.02)
            number += len(self._threads)


def storing_and_staying(flood: Flood, number: int) -> None:
    """Store a small image, and keep the place for a while."""
    sent = ct_of(1000, number)
    with raw_scu.RawSCU(flood.port, _CT, source="127.0.5.1") as scu:
        assert scu.store(sent.data_set, sent.sop_class_uid, sent.sop_instance_uid) == 0
        flood.pause(2)
        scu.release()


_LARGEST = raw_scu.request({(1, str(CTImageStorage)): [f"1.2.3.{n}" for n in range(4000)]})


def asking_for_much(flood: Flood, number: int) -> None:
    """Ask for as much as may be asked for, and never in the same bytes twice."""
    with closing(socket.create_connection(("127.0.0.1", flood.port), 30, ("127.0.5.1", 0))) as one:
        one.sendall(_LARGEST[:26] + b"%-16d" % number + _LARGEST[42:])
        said = first_pdu(one)
        if said[:1] != b"\x02":
            raise raw_scu.Refused(f"PDU {said[0] if said else 0}: {said[6:].hex()}")
        one.sendall(raw_scu.pdu(raw_scu.RELEASE_RQ, bytes(4)))


@pytest.mark.parametrize("serve", [storing_and_staying, asking_for_much])
def test_at_03_complete_associations_of_one_address_keep_nobody_out(
    receiver: Receiver, tmp_path: Path, serve: Callable[[Flood, int], None]
) -> None:
    receiver.start()
    flood = Flood(receiver.port, 60, serve)
    with flood.flowing():
        wait_for(lambda: flood.told[_TOO_MANY], "it takes all the places that it can have")
        with study_passes(receiver, tmp_path / "sent"):
            pass
    assert flood.told["served"]
