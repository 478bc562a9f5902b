"""Show 9: the disk runs nearly full while three studies arrive and a stream writes."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.association import Association

from tests.faults.checker import Acknowledged
from tests.faults.flow import Town
from tests.kit import peers
from tests.kit.dicom import ct_study, write_study
from tests.kit.scripts import COPY_ONE
from tests.kit.volumes import fill, loop_ext4
from tests.kit.waiting import wait_for

MB = 1_000_000
CT = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
# Writes into /output before and while the disk is nearly full, and ends when it may.
WRITER = (
    COPY_ONE
    + """
here = pathlib.Path(__file__).parent
big = pathlib.Path(os.environ["BROOKBOX_OUTPUT"]) / "big.bin"
def write(gate):
    while not (here / gate).exists():
        time.sleep(0.05)
    with big.open("ab") as file:
        file.write(bytes(5_000_000))
        file.flush()
        os.fsync(file.fileno())
    print("written at", gate, flush=True)
for gate in ("first", "full", "gate"):
    write(gate)
big.unlink()
make()
"""
)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """A node whose data_root is a file system of its own, of 2 GB.

    Its limits are where a stream that runs is not stopped yet: below 256 MB it would be.
    The sweep of the first second is the only one that comes with the time.
    """
    with loop_ext4(tmp_path / "volume.img", tmp_path / "town" / "node" / "data", 2000):
        town = Town(tmp_path / "town")
        town.node.settings["receiver"] = {"reserve_gb": 0.8, "reserve_percent": 0}
        town.node.settings["housekeeper"] = {
            "sweep_seconds": 3600, "high_percent": 60, "low_percent": 50,
        }  # fmt: skip
        try:
            town.start()
            yield town
        finally:
            town.stop()


@dataclass
class Sender:
    """One association that stays open; what was answered 0x0000 is told."""

    files: list[Path]
    assoc: Association
    told: list[Acknowledged]

    def send(self) -> int:
        """Send the next instance; its status."""
        file = self.files[len(self.told)]
        status: int = self.assoc.send_c_store(pydicom.dcmread(file)).Status
        if status == 0x0000:
            self.told.append(Acknowledged(file, "HELD"))
        return status


def associate(town: Town) -> Association:
    ae = AE("CT1")
    ae.add_requested_context(*CT)
    ae.network_timeout = 600  # it waits for the test, and so does the node's
    return ae.associate("127.0.0.1", town.node.port, ae_title="HELD")


def sender(town: Town, folder: Path) -> Sender:
    assoc = associate(town)
    assert assoc.is_established
    return Sender(write_study(ct_study(4, size=512), folder), assoc, [])


def is_let_in(town: Town) -> bool:
    """Say whether an association is accepted just now; nothing is sent over it."""
    assoc = associate(town)
    is_established: bool = assoc.is_established
    if is_established:
        assoc.release()
    return is_established


def front_page(town: Town) -> str:
    url = f"http://127.0.0.1:{town.node.web_port}/"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: bytes = answer.read()
    return text.decode()


@pytest.mark.timeout(400)
def test_ft_22_a_disk_that_runs_full_makes_room_refuses_and_recovers(
    town: Town, tmp_path: Path
) -> None:
    node, volume = town.node, town.node.layout.root
    old = write_study(ct_study(4, size=512), tmp_path / "old")
    assert len(node.send(old, "QUICK").acknowledged) == 4
    assert town.settle() == []
    held = town.held_stream("HELD")
    writer = node.add_stream("WRITER", WRITER, quiet_seconds=0.5)
    node.wait_for_stream("WRITER")
    small = write_study(ct_study(1), tmp_path / "small")
    assert len(node.send(small, "WRITER").acknowledged) == 1
    [writing] = node.wait_for_jobs(1, "running", ae_title="WRITER")
    log = node.layout.job(writing.id).log
    (writer / "first").touch()
    wait_for(lambda: log.exists() and "at first" in log.read_text(), "the stream writes")
    removed = [job.id for job in node.jobs("QUICK")]
    before = set(node.layout.studies.rglob("*.dcm"))
    senders = [sender(town, tmp_path / f"sender{n}") for n in range(3)]
    assert [one.send() for one in senders] == [0x0000] * 3

    # Above high_percent what nobody needs any more goes, before its time is over; below the
    # reserve nobody new is let in, and who is within goes on.
    ballast = fill(volume, 700 * MB)
    try:
        wait_for(
            lambda: sum(file.exists() for file in before) == 1,
            "retention has removed all but what the running stream reads",
            60,
        )
    except AssertionError as error:
        left = [file for file in before if file.exists()]
        keeper = (node.layout.logs / "housekeeper.log").read_text()
        raise AssertionError(f"{error}: {left}\n{keeper}\n{node.story()}") from None
    wait_for(lambda: not is_let_in(town), "what was seen a moment ago counts no more")
    refused = peers.storescu(small, node.port, "QUICK")
    assert "Temporary Congestion" in refused.text
    assert [one.send() for one in senders] == [0x0000] * 3

    # Below half of the reserve nothing is taken any more; the stream may write on.
    ballast.unlink()
    ballast = fill(volume, 350 * MB)
    assert [one.send() for one in senders] == [0xA700] * 3
    assert all(one.assoc.is_established for one in senders)
    (writer / "full").touch()
    wait_for(lambda: "at full" in log.read_text(), "the stream writes on")
    wait_for(lambda: "It is held by:" in front_page(town), "the page says what holds the space", 60)
    page = front_page(town)
    assert "There is no space left for studies" in page
    assert "not instances of this node" in page
    status = node.cli_json("status")
    assert "new associations are refused" in status["refuses"]
    assert any("It is held by:" in one["says"] for one in status["processes"])

    # When space is back, everything goes on by itself.
    ballast.unlink()
    town.told = [Acknowledged(file, "WRITER") for file in small]
    for one in senders:
        assert [one.send() for _ in range(2)] == [0x0000] * 2
        one.assoc.release()
        town.told += one.told
    assert len(town.told) == 13
    held.touch()
    (writer / "gate").touch()
    expected = {f"I3: job {id} says 1 results, the index has 0" for id in removed}
    assert set(town.settle()) <= expected
    assert [job.state for job in node.jobs("WRITER")] == ["succeeded"]
    # While the senders waited for room, a study may have counted as whole before it was.
    last = [job for job in node.jobs("HELD") if job.superseded_by is None]
    assert [(job.state, job.input_count) for job in last] == [("succeeded", 4)] * 3
    wait_for(lambda: "It is held by:" not in front_page(town), "the page is well again", 60)


@pytest.mark.timeout(300)
def test_ft_23_a_job_that_meets_a_full_volume_waits_until_there_is_room(
    town: Town, tmp_path: Path
) -> None:
    gate = town.held_stream("HELD")
    removed = [job.id for job in town.node.jobs()]  # what nobody needs makes room
    town.told = []
    for number in range(2):
        study = write_study(ct_study(1), tmp_path / str(number))
        assert len(town.node.send(study, "HELD").acknowledged) == 1
        town.told += [Acknowledged(file, "HELD") for file in study]
    [running] = town.node.wait_for_jobs(1, "running", ae_title="HELD")
    ballast = fill(town.node.layout.root, 200 * MB)  # a run may not write on below 268 MB
    wait_for(
        lambda: (
            [job.state for job in town.node.jobs("HELD")] == ["queued"] * 2
            and {job.wait_reason for job in town.node.jobs("HELD")} == {"The data volume is full."}
        ),
        "both wait, and say why",
        60,
    )
    ballast.unlink()
    gate.touch()
    assert set(town.settle()) <= {f"I3: job {id} says 1 results, the index has 0" for id in removed}
    found = town.node.job(running.id)
    assert (found.state, found.tries) == ("succeeded", 1), "it is not the job's fault"
    made = [(job.state, job.result_count) for job in town.node.jobs("HELD")]
    assert made == [("succeeded", 1)] * 2
