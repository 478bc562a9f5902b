"""kill -9 of dockerd, and of a worker whose container runs: the job runs again, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.index.jobs import Job
from appliance.worker.container import Docker
from tests.faults.checker import Acknowledged
from tests.faults.flow import Town
from tests.faults.test_kills import kill
from tests.kit import dicom, engine
from tests.kit.engine import PrivateEngine
from tests.kit.scripts import COPY_ONE
from tests.kit.waiting import wait_for

# Runs until the folder of its models holds a file named `gate`.
HELD = (
    COPY_ONE
    + """
make()
while not pathlib.Path("/models/gate").exists():
    time.sleep(0.05)
print("the gate is open", flush=True)
"""
)


@pytest.fixture(scope="module")
def private(shipped_images: Docker) -> Iterator[PrivateEngine]:
    """An engine of the tests' own that has the common ground of streams."""
    with engine.private() as one:
        engine.copy(one.docker, engine.GROUND)
        yield one


def contained_stream(town: Town, ae_title: str) -> Path:
    """Add a stream that only Docker may run, and hold it; its gate is given."""
    folder = town.node.add_stream(
        ae_title,
        "",
        image=engine.GROUND,
        command=["python3", "-c", HELD],
        trusted=False,
        models="models",
        quiet_seconds=0.5,
    )
    (folder / "models").mkdir()
    town.node.wait_for_stream(ae_title)
    return folder / "models" / "gate"


def one_running_one_waiting(town: Town, ae_title: str) -> tuple[Job, Job]:
    """Send two studies; give the job that runs in its container, and the one that waits."""
    for number in (1, 2):
        files = dicom.write_study(dicom.ct_study(3), town.folder / f"{ae_title}-{number}")
        report = town.node.send(files, ae_title)
        assert len(report.acknowledged) == 3
        town.told += [Acknowledged(file, ae_title) for file in files]
    [running] = town.node.wait_for_jobs(1, "running", ae_title=ae_title)
    [waiting] = town.node.wait_for_jobs(1, "queued", ae_title=ae_title)
    log = town.node.layout.job(running.id).log
    wait_for(lambda: log.exists() and "started" in log.read_text(), "its container runs")
    return running, waiting


def containers(town: Town, docker: Docker) -> list[tuple[str, str]]:
    """List the containers of the node: their IDs, and the attempts that they are."""
    label = f"brookbox.node={town.node.layout.root.absolute()}"
    return [(one, labels["brookbox.attempt"]) for one, labels in docker.labelled(label)]


def one_result_for_each(town: Town) -> bool:
    """Say whether every study has exactly one result at the PACS."""
    sources = [one.StudyInstanceUID for one in town.pacs.instances()]
    return len(sources) == len(set(sources)) == len({job.study_uid for job in town.node.jobs()})


def _why_waits(town: Town, job_id: int) -> str:
    job = town.node.job(job_id)
    return job.wait_reason if job.state == "queued" else ""


@pytest.mark.timeout(240)
def test_ft_21_dockerd_killed_while_a_container_runs(
    private: PrivateEngine, tmp_path: Path
) -> None:
    town = Town(tmp_path, docker="auto", docker_url=private.url)
    town.start()
    try:
        gate = contained_stream(town, "BOXED")
        job, waiting = one_running_one_waiting(town, "BOXED")
        flow = town.flow()
        wait_for(lambda: flow.studies > 1, "studies flow")
        private.kill()
        wait_for(
            lambda: (
                [_why_waits(town, one.id) for one in (job, waiting)]
                == ["Docker does not answer."] * 2
            ),
            "both of its jobs wait, and say why",
        )
        said = " ".join(town.node.cli("jobs", "show", str(job.id)).stdout.split())
        assert "Docker does not answer" in said
        seen = flow.studies
        wait_for(lambda: flow.studies > seen + 1, "studies of other streams flow on")
        private.start()
        flow.stop()
        wait_for(lambda: town.node.job(job.id).attempt == 2, "the second attempt")
        gate.touch()
        assert town.settle(flow) == []
        assert town.node.job(job.id).state == "succeeded"
        assert town.results_for_every_study()
        assert one_result_for_each(town)
        assert containers(town, private.docker) == []
    finally:
        town.stop()


@pytest.mark.timeout(240)
def test_ft_21_dockerd_started_again_while_a_container_runs(
    private: PrivateEngine, tmp_path: Path
) -> None:
    town = Town(tmp_path, docker="auto", docker_url=private.url)
    town.start()
    try:
        gate = contained_stream(town, "BOXED")
        job, _ = one_running_one_waiting(town, "BOXED")
        private.stop()  # in good order: it ends its containers
        wait_for(lambda: _why_waits(town, job.id) == "Docker does not answer.", "it waits", 60)
        attempts = town.node.job(job.id).attempt
        private.start()
        wait_for(lambda: town.node.job(job.id).attempt > attempts, "the next attempt", 60)
        gate.touch()
        assert town.settle() == []
        found = town.node.job(job.id)
        # What the engine did to it counts for nothing, and nobody tried while it was away.
        assert (found.state, found.attempt, found.tries) == ("succeeded", attempts + 1, 1)
        assert attempts <= 2
        assert town.results_for_every_study()
        assert one_result_for_each(town)
        assert containers(town, private.docker) == []
    finally:
        town.stop()


@pytest.mark.timeout(240)
def test_ft_11_a_worker_killed_while_its_container_runs(
    shipped_images: Docker, tmp_path: Path
) -> None:
    town = Town(tmp_path, docker="auto")
    town.start()
    try:
        gate = contained_stream(town, "BOXED")
        job, _ = one_running_one_waiting(town, "BOXED")
        [(first, _)] = containers(town, shipped_images)
        kill(town, "worker")
        wait_for(
            lambda: [attempt for _, attempt in containers(town, shipped_images)] == ["2"],
            "the first attempt's container is gone, and the second's runs",
        )
        assert first not in dict(containers(town, shipped_images))
        gate.touch()
        assert town.settle() == []
        assert (town.node.job(job.id).state, town.node.job(job.id).attempt) == ("succeeded", 2)
        assert town.results_for_every_study()
        assert one_result_for_each(town)
        assert containers(town, shipped_images) == []
    finally:
        town.stop()
