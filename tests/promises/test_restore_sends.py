"""FT-37: after a restore in place what was not sent is sent, and what was superseded is not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from tests.kit import dicom
from tests.kit.node import Node
from tests.kit.peers import Pacs
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for

RULES = {"worker": {"docker": "never"}}


@dataclass(frozen=True)
class Waiting:
    """A stopped node whose PACS was down, and a backup of it from before its last two jobs.

    Job 1 and its delivery are in the backup; job 2 has more of the same study, job 3 is of
    another.  `wanted` is what the PACS misses: Study UIDs, and how many images the result is of.
    """

    node: Node
    backup: Path
    wanted: set[tuple[str, int]]


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waiting]:
    node = Node(tmp_path_factory.mktemp("waiting"), RULES, ())
    grows, other = generate_uid(), generate_uid()
    files = dicom.write_study(dicom.ct_study(3, study_uid=grows), tmp_path_factory.mktemp("grows"))
    late = dicom.write_study(dicom.ct_study(1, study_uid=other), tmp_path_factory.mktemp("other"))
    node.start()
    try:
        node.route_all_to(Pacs(node.home / "nobody"))
        node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
        node.wait_for_stream("QUICK")
        assert len(node.send(files[:2], "QUICK").acknowledged) == 2
        node.wait_for_deliveries(1, "due", "sending")
        backup = Path(node.cli_json("backup", str(node.home / "backups"))["folder"])
        assert len(node.send(files[2:], "QUICK").acknowledged) == 1
        node.wait_for_jobs(2, "succeeded")
        assert len(node.send(late, "QUICK").acknowledged) == 1
        node.wait_for_jobs(3, "succeeded")
        node.wait_for_deliveries(2, "due", "sending")
        [older] = node.wait_for_deliveries(1, "gave_up")
        assert older.job_id == 1
        for job_id in (1, 2, 3):
            wait_for(node.layout.job(job_id).record.exists, "the job's record is there")
    finally:
        node.stop()
    yield Waiting(node, backup, {(grows, 3), (other, 1)})


def copy_of(waiting: Waiting, home: Path, pacs: Pacs) -> Node:
    """Give a node like the stopped one, whose PACS is to be this one."""
    shutil.copytree(waiting.node.home, home, ignore=shutil.ignore_patterns("run"))
    node = Node(home, RULES, ())
    node.write_settings()
    node.route_all_to(pacs)
    return node


def taken_by(pacs: Pacs) -> list[tuple[str, int]]:
    return sorted((one.StudyInstanceUID, int(one.InstanceNumber)) for one in pacs.instances())


def see_all_sent(node: Node, pacs: Pacs, wanted: set[tuple[str, int]]) -> None:
    """See that the PACS gets what it missed, once, and that nothing is left to be sent."""
    node.wait_for_deliveries(len(wanted), "delivered")
    wait_for(lambda: not node.deliveries("due", "sending"), "nothing is left to be sent", 30)
    assert set(taken_by(pacs)) == wanted
    [stopped] = node.deliveries("gave_up")
    assert stopped.job_id == 1
    assert "superseded" in stopped.message
    assert len(node.jobs()) == 3, "no job ran anew"


def test_ft_37_what_was_not_sent_is_sent_after_a_restore_in_place(
    waiting: Waiting, tmp_path: Path
) -> None:
    pacs = Pacs(tmp_path / "pacs").start()
    node = copy_of(waiting, tmp_path / "copy", pacs)
    try:
        done = node.cli("restore", "--yes", str(waiting.backup))
        assert done.returncode == 0, done.stderr
        assert "2 deliveries of the index that was there had not been sent" in done.stdout
        assert "nobody knows" not in done.stdout.replace("Nobody knows whether it had come", "")
        node.start()
        see_all_sent(node, pacs, waiting.wanted)
        assert [job.superseded_by for job in node.jobs()] == [2, None, None]
    finally:
        node.stop()
        pacs.stop()


def test_ft_37_where_the_index_was_lost_a_restore_names_what_may_not_have_been_sent(
    waiting: Waiting, tmp_path: Path
) -> None:
    pacs = Pacs(tmp_path / "pacs").start()
    node = copy_of(waiting, tmp_path / "copy", pacs)
    for file in node.layout.root.glob("index.sqlite3-*"):
        file.unlink()
    (node.layout.root / "index.sqlite3").write_bytes(b"the disk ate it")
    try:
        done = node.cli("restore", "--yes", str(waiting.backup))
        assert done.returncode == 0, done.stderr
        assert "The present index cannot be read" in done.stderr
        said = "Of 2 jobs nobody knows whether the results were sent"
        assert said in done.stdout
        assert "brookbox deliveries route-again --unknown" in done.stdout
        node.start()
        assert said in node.cli("events").stdout
        assert "Of 2 jobs of the last 7 days nobody knows" in node.cli("doctor").stdout
        wait_for(lambda: node.deliveries("gave_up"), "the older one is stopped", 30)
        assert taken_by(pacs) == []
        assert node.cli_json("deliveries", "route-again", "--unknown") == {"jobs": [2, 3]}
        see_all_sent(node, pacs, waiting.wanted)
        assert "nobody knows" not in node.cli("doctor").stdout
        assert "There is no job" in node.cli("deliveries", "route-again", "--unknown").stdout
    finally:
        node.stop()
        pacs.stop()


@pytest.mark.long  # a rebuild carries over as the restore above does
def test_ft_28_what_was_not_sent_is_sent_after_the_index_was_made_again(
    waiting: Waiting, tmp_path: Path
) -> None:
    pacs = Pacs(tmp_path / "pacs").start()
    node = copy_of(waiting, tmp_path / "copy", pacs)
    try:
        done = node.cli("index", "rebuild", "--yes")
        assert done.returncode == 0, done.stderr
        assert "2 deliveries of the index that was there had not been sent" in done.stdout
        node.start()
        node.wait_for_deliveries(2, "delivered")
        assert set(taken_by(pacs)) == waiting.wanted
        assert [job.superseded_by for job in node.jobs()] == [2, None, None]
    finally:
        node.stop()
        pacs.stop()
