"""The shipped streams as containers: the same way, and the job says what ran it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pydicom

from appliance.index import job_list
from appliance.index.jobs import Job
from appliance.streams.catalog import read_stream
from appliance.worker.container import Docker
from tests.journeys.conftest import NodeMaker, violations
from tests.journeys.test_main_road import errors_of
from tests.kit import dicom, engine
from tests.kit.node import Node
from tests.kit.peers import Pacs


def image_id(docker: Docker, name: str) -> str:
    """Give the ID of an image that is there."""
    found = docker.image(name)
    assert found is not None, name
    return found.id


def test_a_montage_is_made_in_a_container(
    make_node: NodeMaker, shipped_images: Docker, pacs: Pacs, tmp_path: Path
) -> None:
    node = make_node(streams=("montage",), worker={"docker": "auto"})
    node.wait_for_stream("MONTAGE")
    node.route_all_to(pacs)
    files = dicom.write_study(dicom.ct_study(12), tmp_path / "sent")
    report = node.send(files, "MONTAGE")
    assert len(report.acknowledged) == 12
    [job] = node.wait_for_jobs(1, "succeeded")
    node.wait_for_deliveries(1, "delivered")
    assert (job.executor, job.image) == ("container", "brookbox/montage:1.0.0")
    assert job.image_id == image_id(shipped_images, "brookbox/montage:1.0.0")
    [arrived] = pacs.files()
    assert errors_of(arrived) == []
    ds, source = pydicom.dcmread(arrived), pydicom.dcmread(files[0])
    assert (ds.StudyInstanceUID, ds.PatientID) == (source.StudyInstanceUID, source.PatientID)
    assert len(ds.SourceImageSequence) == 12
    assert violations(node, {"MONTAGE": [report]}, pacs) == []
    assert shipped_images.labelled(f"brookbox.node={node.layout.root.absolute()}") == []
    print_the_way(node, job)


def test_an_echo_is_made_in_a_container(
    make_node: NodeMaker, shipped_images: Docker, pacs: Pacs, tmp_path: Path
) -> None:
    node = make_node(streams=("echo",), worker={"docker": "auto"})
    node.wait_for_stream("ECHO")
    node.route_all_to(pacs)
    files = dicom.write_study(dicom.ct_study(3), tmp_path / "sent")
    report = node.send(files, "ECHO")
    [job] = node.wait_for_jobs(1, "succeeded")
    node.wait_for_deliveries(1, "delivered")
    assert (job.executor, job.result_count) == ("container", 3)
    assert job.image_id == image_id(shipped_images, "brookbox/echo:1.0.0")
    # The copies are as valid as what they are copies of.
    known = {error for file in files for error in errors_of(file)}
    assert {error for file in pacs.files() for error in errors_of(file)} <= known
    assert len(pacs.files()) == 3
    assert violations(node, {"ECHO": [report]}, pacs) == []
    print_the_way(node, job)


def print_the_way(node: Node, job: Job) -> None:
    """Print how long the last instance took to its container, beyond the stream's quiet time."""
    quiet = read_stream(node.home / "streams" / job.ae_title.lower()).good_info.quiet_seconds
    with node.db.read() as connection:
        steps = {step.name: step.started_at for step in job_list.steps_of(connection, job.id)}
    [started] = engine.started_at(job.id, node.layout.root, job.created_at)
    stations = {"job": job.created_at, **steps, "container": started}
    complete = job.last_instance_at + timedelta(seconds=quiet or 0)
    for name, at in sorted(stations.items(), key=lambda station: station[1]):
        print(f"{job.ae_title} {name}: quiet time plus {(at - complete).total_seconds():.3f} s")
