"""First in, first out; streams side by side; lanes hold on the whole node."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

from tests.kit import dicom
from tests.kit.node import Node
from tests.kit.scripts import HELD, SLEEP
from tests.kit.waiting import wait_for


def send_studies(node: Node, tmp_path: Path, called: str, count: int) -> None:
    for number in range(count):
        files = dicom.write_study(dicom.ct_study(1), tmp_path / f"{called}-{number}")
        assert len(node.send(files, called).acknowledged) == 1
        wait_for(lambda n=number: len(node.jobs(called)) == n + 1, "the study became a job")


def overlap(node: Node, called: str) -> bool:
    spans = sorted((job.started_at, job.ended_at) for job in node.jobs(called))
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))


def test_five_studies_run_one_at_a_time_in_the_order_they_came(
    shared_node: Node, tmp_path: Path
) -> None:
    node = shared_node
    node.add_stream("SLEEP", SLEEP, settings={"seconds": 1.5}, quiet_seconds=0.3)
    node.wait_for_stream("SLEEP")
    send_studies(node, tmp_path, "SLEEP", 5)
    jobs = node.wait_for_jobs(5, "succeeded", ae_title="SLEEP")
    assert [job.id for job in sorted(jobs, key=lambda job: job.started_at)] == sorted(
        job.id for job in jobs
    )
    assert not overlap(node, "SLEEP")


def test_two_streams_run_side_by_side_and_two_workers_keep_to_one_lane(
    shared_node: Node, tmp_path: Path
) -> None:
    node = shared_node
    gates = []
    for called in ("LEFT", "RIGHT"):
        folder = node.add_stream(called, HELD, quiet_seconds=0.3)
        gates.append(folder / "gate")
        node.wait_for_stream(called)
    second = subprocess.Popen(
        node.command("worker"),
        cwd=node.home,
        env=node.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for called in ("LEFT", "RIGHT"):
            send_studies(node, tmp_path, called, 2)
            node.wait_for_jobs(1, "running", ae_title=called)
        for called in ("LEFT", "RIGHT"):
            assert [job.state for job in node.jobs(called)] == ["running", "queued"]
        for gate in gates:
            gate.touch()
        for called in ("LEFT", "RIGHT"):
            node.wait_for_jobs(2, "succeeded", ae_title=called)
        assert not overlap(node, "LEFT")
        assert not overlap(node, "RIGHT")
    finally:
        second.terminate()
        second.wait(60)


def test_high_priority_overtakes_what_waits_and_not_what_runs(
    shared_node: Node, tmp_path: Path
) -> None:
    node = shared_node
    folder = node.add_stream("MIXED", HELD, quiet_seconds=1)
    node.wait_for_stream("MIXED")
    send_studies(node, tmp_path, "MIXED", 2)
    # Looks at the folder, so that the next look takes an edit only when it has settled.
    assert _priority(node) == "normal"
    info = folder / "info.json"
    info.write_text(info.read_text().replace('"enabled": 1', '"enabled": 1, "priority": "high"'))
    wait_for(lambda: _priority(node) == "high", "the edit is seen", 10)
    files = dicom.write_study(dicom.ct_study(1), tmp_path / "urgent")
    node.send(files, "MIXED")
    wait_for(lambda: len(node.jobs("MIXED")) == 3, "the urgent study became a job")
    first, second, urgent = node.jobs("MIXED")
    assert [job.state for job in node.jobs("MIXED")] == ["running", "queued", "queued"]
    (folder / "gate").touch()
    jobs = node.wait_for_jobs(3, "succeeded", ae_title="MIXED")
    order = [job.id for job in sorted(jobs, key=lambda job: job.started_at)]
    assert order == [first.id, urgent.id, second.id]


def _priority(node: Node) -> str:
    found = [one for one in node.get("/api/v1/streams")["streams"] if one["ae_title"] == "MIXED"]
    return (found[0]["info"] or {}).get("priority", "") if found else ""
