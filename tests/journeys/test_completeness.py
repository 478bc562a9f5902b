"""When a study is one job: whatever the associations look like that bring it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from tests.journeys.conftest import violations
from tests.kit import dicom, peers
from tests.kit.node import Node
from tests.kit.peers import Pacs
from tests.kit.scripts import HELD, QUICK
from tests.kit.waiting import wait_for


def serve(node: Node, ae_title: str, script: str = QUICK, **info: object) -> Node:
    """Add a stream for one test, and wait until it is served."""
    node.add_stream(ae_title, script, **info)
    node.wait_for_stream(ae_title)
    return node


def test_an_association_for_each_instance_with_pauses_between_is_one_job(
    shared_node: Node, tmp_path: Path
) -> None:
    node = serve(shared_node, "SLOWLY", quiet_seconds=6)
    for file in dicom.write_study(dicom.ct_study(3), tmp_path / "sent"):
        node.send([file], "SLOWLY")
        time.sleep(4)  # the sender's own pace, which is what is tested
    [job] = node.wait_for_jobs(1, ae_title="SLOWLY")
    assert job.input_count == 3
    assert len(node.jobs("SLOWLY")) == 1


def test_an_association_that_stays_open_idle_is_one_job(shared_node: Node, tmp_path: Path) -> None:
    node = serve(shared_node, "IDLE")
    sender = AE("CT1")
    sender.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    assoc = sender.associate("127.0.0.1", node.port, ae_title="IDLE")
    for file in dicom.write_study(dicom.ct_study(3), tmp_path / "sent"):
        assert assoc.send_c_store(file).Status == 0x0000
    # idle_seconds (3 here) ends the wait for it, though it is open still.
    [job] = node.wait_for_jobs(1, ae_title="IDLE")
    assert assoc.is_established
    assoc.release()
    assert job.input_count == 3
    assert len(node.jobs("IDLE")) == 1


def test_two_associations_side_by_side_are_one_job(shared_node: Node, tmp_path: Path) -> None:
    node = serve(shared_node, "TWICE")
    files = dicom.write_study(dicom.ct_study(20), tmp_path / "sent")
    senders = [
        subprocess.Popen(
            peers.storescu_command(half, node.port, "TWICE", "CT1"),
            env=peers.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for half in (files[::2], files[1::2])
    ]
    assert [one.wait(60) for one in senders] == [0, 0]
    [job] = node.wait_for_jobs(1, ae_title="TWICE")
    assert job.input_count == 20
    assert len(node.jobs("TWICE")) == 1


def test_one_study_for_two_ae_titles_is_two_jobs_and_one_copy(
    shared_node: Node, tmp_path: Path
) -> None:
    node = serve(serve(shared_node, "ONE"), "OTHER")
    study = dicom.ct_study(3)
    files = dicom.write_study(study, tmp_path / "sent")
    reports = {called: [node.send(files, called)] for called in ("ONE", "OTHER")}
    for called in reports:
        node.wait_for_jobs(1, "succeeded", ae_title=called)
    copies = list(node.layout.studies.rglob(f"{study[0].StudyInstanceUID}/*/*.dcm"))
    assert len(copies) == 3 + 2
    assert violations(node, reports, is_quiet=False) == []


def test_ft_40_a_late_slice_makes_a_superseding_job_and_the_older_result_is_not_delivered(
    shared_node: Node, pacs: Pacs, tmp_path: Path
) -> None:
    node = serve(shared_node, "LATE", HELD)
    node.route_all_to(pacs)
    files = dicom.write_study(dicom.ct_study(4), tmp_path / "sent")
    node.send(files[:3], "LATE")
    [older] = node.wait_for_jobs(1, "running", ae_title="LATE")
    node.send(files[3:], "LATE")
    wait_for(lambda: len(node.jobs("LATE")) == 2, "the late slice made a job")
    (node.home / "streams" / "late" / "gate").touch()
    newer = node.wait_for_jobs(2, "succeeded", ae_title="LATE")[-1]
    assert (newer.input_count, newer.supersedes) == (4, older.id)

    def of_these() -> list[tuple[int, str]]:
        return [(d.job_id, d.state) for d in node.deliveries() if d.job_id >= older.id]

    wait_for(lambda: (newer.id, "delivered") in of_these(), "the newer result is delivered")
    wait_for(lambda: node.job(older.id).routed_at, "the older job was looked at")
    assert node.job(older.id).superseded_by == newer.id
    assert f"job {newer.id}" in node.job(older.id).routing_note
    assert of_these() == [(newer.id, "delivered")]
    assert len(pacs.files()) == 1


def test_bi_01_the_same_study_again_is_shown_as_identical_and_makes_no_job(
    shared_node: Node, tmp_path: Path
) -> None:
    node = serve(shared_node, "AGAIN")
    study = dicom.ct_study(2)
    files = dicom.write_study(study, tmp_path / "sent")
    node.send(files, "AGAIN")
    [job] = node.wait_for_jobs(1, "succeeded", ae_title="AGAIN")
    again = node.send(files, "AGAIN")
    assert len(again.acknowledged) == 2

    def said() -> str:
        return " ".join(node.cli("why", str(study[0].StudyInstanceUID)).stdout.split())

    wait_for(lambda: f"identical to job {job.id}" in said(), "the second arrival is closed")
    assert len(node.jobs("AGAIN")) == 1


def test_a_study_whose_association_was_aborted_waits_for_a_person_before_it_is_sent(
    shared_node: Node, pacs: Pacs, tmp_path: Path
) -> None:
    node = serve(shared_node, "ABORTED", quiet_seconds=1)
    node.route_all_to(pacs)
    sender = AE("CT1")
    sender.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    assoc = sender.associate("127.0.0.1", node.port, ae_title="ABORTED")
    [file] = dicom.write_study(dicom.ct_study(1), tmp_path / "sent")
    assert assoc.send_c_store(file).Status == 0x0000
    assoc.abort()
    [job] = node.wait_for_jobs(1, "succeeded", ae_title="ABORTED")
    assert job.incomplete
    assert job.is_held
    told = node.cli("status").stdout
    assert "held for a person to release: brookbox jobs list" in told, told
    assert f"brookbox jobs release {job.id}" in node.cli("jobs", "show", str(job.id)).stdout

    def of_this() -> list[str]:
        return [delivery.state for delivery in node.deliveries() if delivery.job_id == job.id]

    assert of_this() == []
    released = node.cli("jobs", "release", str(job.id))
    assert released.returncode == 0, released.stderr
    wait_for(lambda: of_this() == ["delivered"], "the released result is delivered")
