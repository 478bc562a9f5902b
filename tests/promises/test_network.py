"""FT-33: a network that loses, delays, cuts and swallows: time limits fire and nothing leaks."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kit import peers
from tests.kit.dicom import ct_study, write, write_study
from tests.kit.peers import Pacs, SendReport
from tests.kit.waiting import free_port, wait_for
from tests.kit.wire import Wire, wire
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate, ct_slice_with_meta, half_a_c_store
from tests.service.receiver.peer import wire as connection_of
from tests.service.router.bench import Bench, sop_uids, uids


@pytest.fixture
def listening(receiver: Receiver) -> Receiver:
    """A receiver at every address, which does not wait long for a silent peer."""
    receiver.settings = {
        "receiver": {"address": "0.0.0.0", "processes": 1, "network_timeout_seconds": 5}
    }
    receiver.write_settings()
    return receiver.start()


def send(over: Wire, files: list[Path], port: int, seconds: float = 150) -> SendReport:
    """Send files with storescu from the other end."""
    words = peers.storescu_command(files, port, "ECHO", "CT1", ["-ta", "60", "-to", "60"])
    words[words.index("127.0.0.1")] = over.here
    done = subprocess.run(
        over.command(*words),
        capture_output=True, text=True, timeout=seconds, env=peers.environment(),
    )  # fmt: skip
    return peers.report(done.returncode, done.stdout + done.stderr)


def threads(receiver: Receiver) -> int:
    [child] = receiver.children()
    return child.num_threads()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("loss", "delay_seconds", "mtu"),
    [
        (0.1, 0, 1500),
        (0, 0.3, 1500),
        (0, 0, 576),
        pytest.param(0.3, 0, 1500, marks=pytest.mark.long),
        pytest.param(0, 2, 1500, marks=pytest.mark.long),
    ],
    ids=["10 % loss", "0.3 s latency", "small MTU", "30 % loss", "2 s latency"],
)
def test_ft_33_a_study_arrives_whole_over_a_bad_network(
    receiver: Receiver, tmp_path: Path, loss: float, delay_seconds: float, mtu: int
) -> None:
    receiver.settings = {"receiver": {"address": "0.0.0.0", "processes": 1}}
    receiver.write_settings()
    receiver.start()
    before = threads(receiver)
    files = write_study(ct_study(2, size=32), tmp_path)
    with wire(mtu) as bad:
        bad.loss, bad.delay_seconds = loss, delay_seconds
        left = set(files)
        while left:  # as a sender does; the test's time is what bounds it
            left -= set(send(bad, sorted(left), receiver.port).acknowledged)
        assert bad.lost or not loss
    assert len(receiver.stored()) == 2
    wait_for(lambda: all(row.closed_at for row in receiver.associations()), "all are closed", 90)
    wait_for(lambda: threads(receiver) <= before, "no thread is left", 90)


@pytest.mark.parametrize("how", ["cut", "swallows what is long"])
def test_ft_33_a_peer_that_the_network_takes_away_is_given_up(
    listening: Receiver, tmp_path: Path, how: str
) -> None:
    """Half-open: no FIN, no RST, nothing; a black hole for long packets is no better."""
    before = threads(listening)
    files = write_study(ct_study(1, size=1024), tmp_path)
    with wire() as bad:
        bad.delay_seconds = 0.2  # so that the data set takes seconds
        words = peers.storescu_command(files, listening.port, "ECHO", "CT1", ["-to", "30"])
        words[words.index("127.0.0.1")] = bad.here
        with subprocess.Popen(
            bad.command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as sender:
            try:
                wait_for(listening.associations, "the association is open")
                bad.is_cut, bad.longest = how == "cut", 600
                assert peers.echoscu(listening.port, "ECHO"), "another peer is served"
                wait_for(
                    lambda: all(row.closed_at for row in listening.associations()),
                    "it is closed as lost",
                    60,
                )
                wait_for(lambda: threads(listening) <= before, "no thread is left", 60)
            finally:
                sender.kill()
    assert {row.ending for row in listening.associations()} <= {"lost", "aborted"}
    assert listening.instances() == []
    wait_for(lambda: not listening.waiting(), "nothing is left of it")


def test_ft_33_a_reset_in_mid_data_set_leaves_nothing(listening: Receiver, tmp_path: Path) -> None:
    before = threads(listening)
    ds = ct_slice_with_meta()
    path = write(ds, tmp_path / "one.dcm")
    assoc = associate(listening)
    connection = connection_of(assoc)
    connection.sendall(half_a_c_store(ds, path))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    wait_for(lambda: [row for row in listening.associations() if row.closed_at], "it is closed")
    assert [row.ending for row in listening.associations()] == ["lost"]
    wait_for(lambda: threads(listening) <= before, "no thread is left")
    assert listening.instances() == []
    assert len(peers.storescu([path], listening.port, "ECHO").acknowledged) == 1


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "node", {"association_timeout_seconds": 2, "answer_timeout_seconds": 2})
    yield made
    made.stop()
    made.db.close()


def test_ft_33_a_destination_behind_a_black_hole_delays_nobody_and_gets_it_later(
    router: Bench, tmp_path: Path
) -> None:
    near = Pacs(tmp_path / "near", "PACS1").start()
    study = ct_study(3, size=256)
    with wire() as bad:
        far = Pacs(tmp_path / "far", "PACS0", free_port())
        far.folder.mkdir()
        words = bad.command("storescp", "-aet", "PACS0", "+B", "-od", str(far.folder))
        with subprocess.Popen([*words, str(far.port)], env=peers.environment()) as scp:
            try:
                bad.is_cut = True
                router.route(
                    {
                        "destinations": {
                            "far": {"ae_title": "PACS0", "host": bad.there, "port": far.port},
                            "near": {"ae_title": "PACS1", "host": "127.0.0.1", "port": near.port},
                        },
                        "rules": [{"name": "all", "to": ["far", "near"]}],
                    }
                )
                router.start()
                assert router.process is not None
                own = psutil.Process(router.process.pid)
                idle = own.num_threads()
                router.ended_job(study)
                [done] = router.wait_for("delivered", seconds=60)
                assert done.destination == "near"
                router.wait_for("due", attempt=2, seconds=60)
                bad.is_cut, bad.longest = False, 600  # it connects, and no data comes through
                tried = router.deliveries("due", "sending")[0].attempt
                router.wait_for("due", attempt=tried + 2, seconds=60)
                bad.longest = None
                router.wait_for("delivered", 2, seconds=60)
                assert uids(far.folder) == sop_uids(study)
                wait_for(lambda: own.num_threads() <= idle + 2, "no thread is left", 60)
            finally:
                scp.kill()
                near.stop()
