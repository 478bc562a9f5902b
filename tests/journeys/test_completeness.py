"""When a study is one job: whatever the associations look like that bring it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from tests.journeys.conftest import NodeMaker, violations
from tests.kit import dicom, peers
from tests.kit.node import Node
from tests.kit.peers import Pacs
from tests.kit.scripts import HELD, QUICK
from tests.kit.waiting import wait_for


def node_with_quick(make_node: NodeMaker, **settings: object) -> Node:
    node = make_node(**settings)
    node.add_stream("QUICK", QUICK)
    node.wait_for_stream("QUICK")
    return node


def test_an_association_for_each_instance_with_pauses_between_is_one_job(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = make_node()
    node.add_stream("SLOWLY", QUICK, quiet_seconds=6)
    node.wait_for_stream("SLOWLY")
    for file in dicom.write_study(dicom.ct_study(3), tmp_path / "sent"):
        node.send([file], "SLOWLY")
        time.sleep(4)  # the sender's own pace, which is what is tested
    [job] = node.wait_for_jobs(1)
    assert job.input_count == 3
    assert len(node.jobs()) == 1


def test_an_association_that_stays_open_idle_is_one_job(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = node_with_quick(make_node)
    sender = AE("CT1")
    sender.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    assoc = sender.associate("127.0.0.1", node.port, ae_title="QUICK")
    for file in dicom.write_study(dicom.ct_study(3), tmp_path / "sent"):
        assert assoc.send_c_store(file).Status == 0x0000
    # idle_seconds (3 here) ends the wait for it, though it is open still.
    [job] = node.wait_for_jobs(1)
    assert assoc.is_established
    assoc.release()
    assert job.input_count == 3
    assert len(node.jobs()) == 1


def test_two_associations_side_by_side_are_one_job(make_node: NodeMaker, tmp_path: Path) -> None:
    node = node_with_quick(make_node)
    files = dicom.write_study(dicom.ct_study(20), tmp_path / "sent")
    senders = [
        subprocess.Popen(
            peers.storescu_command(half, node.port, "QUICK", "CT1"),
            env=peers.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for half in (files[::2], files[1::2])
    ]
    assert [one.wait(60) for one in senders] == [0, 0]
    [job] = node.wait_for_jobs(1)
    assert job.input_count == 20
    assert len(node.jobs()) == 1


def test_one_study_for_two_ae_titles_is_two_jobs_and_one_copy(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = node_with_quick(make_node)
    node.add_stream("OTHER", QUICK)
    node.wait_for_stream("OTHER")
    files = dicom.write_study(dicom.ct_study(3), tmp_path / "sent")
    reports = {"QUICK": [node.send(files, "QUICK")], "OTHER": [node.send(files, "OTHER")]}
    jobs = node.wait_for_jobs(2, "succeeded")
    assert {job.ae_title for job in jobs} == {"QUICK", "OTHER"}
    made = set(node.layout.studies.rglob("*.dcm"))
    assert len(made) == 3 + 2
    assert violations(node, reports) == []


def test_a_late_slice_makes_a_superseding_job_and_the_older_result_is_not_delivered(
    make_node: NodeMaker, pacs: Pacs, tmp_path: Path
) -> None:
    node = make_node()
    gate = tmp_path / "gate"
    node.add_stream("HELD", HELD, settings={"gate": str(gate)})
    node.wait_for_stream("HELD")
    node.route_all_to(pacs)
    files = dicom.write_study(dicom.ct_study(4), tmp_path / "sent")
    node.send(files[:3], "HELD")
    [older] = node.wait_for_jobs(1, "running")
    node.send(files[3:], "HELD")
    wait_for(lambda: len(node.jobs()) == 2, "the late slice made a job")
    gate.touch()
    node.wait_for_jobs(2, "succeeded")
    node.wait_for_deliveries(1, "delivered")
    newer = node.jobs()[-1]
    assert (newer.input_count, newer.supersedes) == (4, older.id)
    assert node.job(older.id).superseded_by == newer.id
    assert "superseded" in node.job(older.id).routing_note
    assert [delivery.job_id for delivery in node.deliveries()] == [newer.id]
    assert len(pacs.files()) == 1


def test_the_same_study_again_is_shown_as_identical_and_makes_no_job(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = node_with_quick(make_node)
    files = dicom.write_study(dicom.ct_study(2), tmp_path / "sent")
    node.send(files, "QUICK")
    node.wait_for_jobs(1, "succeeded")
    again = node.send(files, "QUICK")
    assert len(again.acknowledged) == 2
    wait_for(lambda: not node.open_arrivals(), "the second arrival is closed")
    assert len(node.jobs()) == 1
    said = node.cli("why", str(dicom_uid(files[0]))).stdout
    assert "identical to job 1" in said


def test_a_study_whose_association_was_aborted_waits_for_a_person_before_it_is_sent(
    make_node: NodeMaker, pacs: Pacs, tmp_path: Path
) -> None:
    node = node_with_quick(make_node)
    node.route_all_to(pacs)
    sender = AE("CT1")
    sender.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    assoc = sender.associate("127.0.0.1", node.port, ae_title="QUICK")
    [file] = dicom.write_study(dicom.ct_study(1), tmp_path / "sent")
    assert assoc.send_c_store(file).Status == 0x0000
    assoc.abort()
    [job] = node.wait_for_jobs(1, "succeeded")
    assert job.incomplete
    assert job.is_held
    assert node.deliveries() == []
    released = node.cli("jobs", "release", str(job.id))
    assert released.returncode == 0, released.stderr
    node.wait_for_deliveries(1, "delivered")


def dicom_uid(file: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID)
