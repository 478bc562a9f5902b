"""A study goes in by C-STORE, a result comes back to the PACS."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pydicom

from tests.journeys.conftest import NodeMaker, violations
from tests.kit import dicom, require
from tests.kit.peers import Pacs
from tests.kit.scripts import HELD, QUICK
from tests.kit.waiting import wait_for


def errors_of(file: Path) -> list[str]:
    """Give what dciodvfy calls an error."""
    done = subprocess.run([require.dciodvfy(), str(file)], capture_output=True, text=True)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def test_a_montage_comes_back_in_the_same_study(
    make_node: NodeMaker, pacs: Pacs, tmp_path: Path
) -> None:
    node = make_node(streams=("montage",))
    node.route_all_to(pacs)
    files = dicom.write_study(dicom.ct_study(12), tmp_path / "sent")
    report = node.send(files, "MONTAGE")
    assert len(report.acknowledged) == 12
    [job] = node.wait_for_jobs(1, "succeeded")
    node.wait_for_deliveries(1, "delivered")
    [arrived] = pacs.files()
    ds, source = pydicom.dcmread(arrived), pydicom.dcmread(files[0])
    assert ds.StudyInstanceUID == source.StudyInstanceUID
    assert ds.PatientID == source.PatientID
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    assert int(ds.SeriesNumber) >= 9000
    sources = {item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence}
    assert sources == {pydicom.dcmread(file).SOPInstanceUID for file in files}
    assert errors_of(arrived) == []
    assert job.result_count == 1
    assert violations(node, {"MONTAGE": [report]}, pacs) == []


def test_a_result_that_the_pacs_forwards_back_opens_no_arrival(
    make_node: NodeMaker, pacs: Pacs, tmp_path: Path
) -> None:
    node = make_node(streams=("echo",))
    node.route_all_to(pacs)
    files = dicom.write_study(dicom.ct_study(2), tmp_path / "sent")
    node.send(files, "ECHO")
    node.wait_for_deliveries(1, "delivered")
    # The PACS keeps what it got as Part 10 files: they go back to the very stream.
    again = node.send(pacs.files(), "ECHO", "PACS", "-R")
    assert len(again.acknowledged) == 2
    assert node.open_arrivals() == []
    assert len(node.jobs()) == 1


def test_a_running_job_shows_its_log_and_can_be_cancelled(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = make_node()
    gate = node.add_stream("HELD", HELD) / "gate"
    node.wait_for_stream("HELD")
    node.send(dicom.write_study(dicom.ct_study(1), tmp_path / "sent"), "HELD")
    [job] = node.wait_for_jobs(1, "running")
    log = node.layout.job(job.id).log
    wait_for(lambda: log.exists() and "started" in log.read_text(), "the log grows")
    asked = node.cli("jobs", "cancel", str(job.id))
    assert asked.returncode == 2 and "--yes" in asked.stderr, "nobody at a terminal can be asked"
    done = node.cli("jobs", "cancel", "--yes", str(job.id))
    assert done.returncode == 0, done.stderr
    [cancelled] = node.wait_for_jobs(1, "cancelled")
    assert cancelled.reason == f"It was cancelled by {cancelled.cancelled_by}."
    assert "(command line)" in cancelled.cancelled_by
    # The lane is free again.
    gate.touch()
    node.send(dicom.write_study(dicom.ct_study(1), tmp_path / "sent2"), "HELD")
    node.wait_for_jobs(1, "succeeded")


def test_a_stream_is_added_edited_and_removed_while_the_node_runs(
    make_node: NodeMaker, tmp_path: Path
) -> None:
    node = make_node()
    files = dicom.write_study(dicom.ct_study(1), tmp_path / "sent")
    assert node.send(files, "LATER").exit_code != 0
    folder = node.add_stream("LATER", QUICK)
    node.wait_for_stream("LATER", 5)
    assert len(node.send(files, "LATER").acknowledged) == 1
    node.wait_for_jobs(1, "succeeded")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    wait_for(lambda: node.send(files, "LATER").exit_code != 0, "the AE title is refused", 10)
