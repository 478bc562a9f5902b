"""kill -9 of the router after the peer's success, FT-20; test_sending.py has it mid C-STORE."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from tests.kit import dicom
from tests.kit.waiting import wait_for
from tests.service.router.bench import Bench, sop_uids


class Peer:
    """A PACS that keeps one file an instance, and whose answer to a C-STORE can be held."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.releases = 0
        self.may_answer = threading.Event()
        peer = AE("PACS0")
        peer.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_RELEASED, self._released)]
        self.server = peer.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port: int = self.server.socket.getsockname()[1]

    def _store(self, event: evt.Event) -> int:
        self.asked.append(str(event.request.AffectedSOPInstanceUID))
        self.may_answer.wait(30)
        return 0x0000

    def _released(self, event: evt.Event) -> None:
        self.releases += 1


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    yield one
    one.stop()
    one.db.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    one = Peer()
    yield one
    one.may_answer.set()
    one.server.shutdown()


def test_ft_20_a_router_killed_after_success_and_before_its_row_sends_again(
    bench: Bench, peer: Peer
) -> None:
    study = dicom.ct_study(1)
    bench.route_to(peer.port)
    bench.ended_job(study)
    bench.start()
    wait_for(lambda: peer.asked, "the C-STORE has come")
    # Nobody else writes into the index now: the router cannot note what it is answered.
    with bench.db.write():
        peer.may_answer.set()
        wait_for(lambda: peer.releases == 1, "the router has the answer, and releases")
        bench.kill()
    [delivery] = bench.deliveries("sending")
    assert [one.state for one in bench.instances(delivery.id)] == ["waiting"]
    bench.start()
    [delivery] = bench.wait_for("delivered")
    assert delivery.attempt == 2, "the attempt that died counts as one"
    assert peer.asked == sop_uids(study) * 2, "the peer knows it by its UID"
    [sent] = bench.instances(delivery.id)
    assert (sent.state, sent.status) == ("sent", 0)
    assert len(bench.deliveries()) == 1
