"""kill -9 of the worker at each step of an attempt, FT-09 to FT-14: the results are kept once.

A worker dies inside the step that the test names: a few lines that run in it before
its own code make that step kill it.  What the dead one left shows that it got there.
"""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from appliance.index.jobs import Job
from appliance.intake.adoption import adopt
from appliance.streams.catalog import read_streams
from appliance.worker.container import Docker
from tests.faults import checker
from tests.kit import dicom, engine
from tests.kit.bench import Bench
from tests.kit.scripts import COPY_ONE, HELD
from tests.kit.waiting import wait_for
from tests.service.worker.lane_facts import open_gates

DIES = """
import os, signal
from appliance.intake import results
from appliance.worker import run_job
from appliance.worker.container import Docker
from appliance.worker.plain_process import ProcessExecutor
def dies(of, name, after):
    whole = getattr(of, name)
    def dying(*args, **kwargs):
        if after:
            whole(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(of, name, dying)
"""
TWO = (
    COPY_ONE
    + """
make()
ds = pydicom.dcmread(files[0])
ds.SeriesInstanceUID, ds.SOPInstanceUID = uid("series"), uid("two")
ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
ds.save_as(pathlib.Path(os.environ["BROOKBOX_OUTPUT"]) / "two.dcm")
"""
)


@dataclass
class Attempt:
    """A study of two images for a stream that makes two results, and who runs it."""

    bench: Bench
    docker: Docker | None

    def first_dies(self, by_process: str, by_container: str = "") -> Job:
        """Have the first worker die in a step; give the job as it left it."""
        step = by_container if self.docker and by_container else by_process
        worker = self.bench.start("worker", f"{DIES}{step}\n")
        self.bench.send_study(dicom.ct_study(2), "TWO")
        assert worker.wait(60) == -signal.SIGKILL
        [job] = self.bench.jobs()
        assert job.attempt == 1
        return job

    def containers(self) -> list[str]:
        """List the containers that there are of this node, running or not."""
        if self.docker is None:
            return []
        label = f"brookbox.node={self.bench.layout.root.absolute()}"
        return [one for one, _ in self.docker.labelled(label)]

    def second_ends(self, attempt: int = 2, *, leaves_links: bool = False) -> None:
        """Start the next worker, and see that all is as if nothing had happened."""
        self.bench.start("worker")
        [job] = self.bench.wait_for_jobs(1, "succeeded", seconds=60)
        assert (job.attempt, job.result_count) == (attempt, 2)
        all_is_well(self.bench, job, files=4, leaves_links=leaves_links)
        wait_for(lambda: self.containers() == [], "no container is left")


@pytest.fixture(params=["process", "container"])
def attempt(request: pytest.FixtureRequest, bench: Bench) -> Attempt:
    """A bench with a dispatcher and the stream TWO, which each kind of executor runs in turn."""
    docker = None
    if request.param == "container":
        docker = request.getfixturevalue("shipped_images")
        config = yaml.safe_load(bench.file.read_text())
        config["worker"]["docker"] = "auto"
        bench.file.write_text(yaml.safe_dump(config))
        facts = {"image": engine.GROUND, "command": ["python3", "-c", TWO], "trusted": False}
        bench.stream("TWO", **facts)
    else:
        bench.stream("TWO", TWO)
    bench.start("dispatcher")
    return Attempt(bench, docker)


def all_is_well(bench: Bench, job: Job, files: int, *, leaves_links: bool = False) -> None:
    """See that the job is settled, its results are there once, and nothing else is."""
    folder = bench.layout.job(job.id)
    wait_for(lambda: folder.record.exists() and not folder.input.exists(), "it is settled", 20)
    assert len(bench.results(job.id)) == job.result_count
    assert len(list(bench.layout.studies.rglob("*.dcm"))) == files
    # What was linked stays for adoption, which the housekeeper calls; the rest was swept.
    assert bool(list(bench.layout.incoming.glob("job-*/*"))) == leaves_links
    adopt(bench.db, bench.layout, read_streams(bench.home / "streams"), datetime.now(UTC))
    evidence = checker.Evidence(bench.layout.root, bench.db, oldest_temp=timedelta(0))
    for part in (
        checker.acknowledged_is_kept, checker.store_matches_index, checker.jobs_end_once,
        checker.nothing_runnable_lies,
    ):  # fmt: skip
        assert list(part(evidence)) == []


def test_ft_09_killed_after_the_lease(attempt: Attempt) -> None:
    job = attempt.first_dies("dies(run_job, 'prepare', False)")
    assert (job.state, job.lease_until is not None) == ("running", True)
    assert not attempt.bench.layout.job(job.id).input.exists()
    attempt.second_ends()


def test_ft_10_killed_before_the_container_is_made(attempt: Attempt) -> None:
    job = attempt.first_dies("dies(ProcessExecutor, 'run', False)", "dies(Docker, 'create', False)")
    folder = attempt.bench.layout.job(job.id)
    assert len(list(folder.input.iterdir())) == 2
    assert list(folder.output.iterdir()) == attempt.containers() == []
    attempt.second_ends()


def test_ft_11_killed_while_it_runs(bench: Bench) -> None:
    # tests/faults/test_dockerd.py has the same with a container.
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    worker = bench.start("worker")
    bench.send_study(dicom.ct_study(2), "HELD")
    [job] = bench.wait_for_jobs(1, "running")
    wait_for(lambda: (bench.layout.job(job.id).output / "one.dcm").exists(), "it works", 20)
    kill(worker)
    bench.start("worker")
    open_gates(bench)
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert (job.attempt, job.tries, job.result_count) == (2, 2, 1)
    all_is_well(bench, job, files=3)


def test_ft_12_killed_after_the_end_of_the_run_and_before_its_results_are_read(
    attempt: Attempt,
) -> None:
    job = attempt.first_dies("dies(ProcessExecutor, 'run', True)", "dies(Docker, 'remove', False)")
    if attempt.docker:
        [left] = attempt.containers()
        state = attempt.docker.state(left)
        assert (state.is_running, state.exit_code) == (False, 0)
    output = attempt.bench.layout.job(job.id).output
    assert {path.name for path in output.iterdir()} == {"one.dcm", "two.dcm"}
    assert list(attempt.bench.layout.incoming.glob("job-*")) == []
    attempt.second_ends()


def test_ft_13_killed_when_one_of_two_results_is_read(attempt: Attempt) -> None:
    job = attempt.first_dies("dies(results, 'stage', True)")
    assert job.state == "running"
    assert len(list(attempt.bench.layout.incoming.glob("job-*/*.dcm"))) == 1
    attempt.second_ends()


def test_ft_13_killed_when_the_results_are_linked_and_not_registered(attempt: Attempt) -> None:
    job = attempt.first_dies("dies(results, '_link_all', True)")
    assert (job.state, attempt.bench.results(job.id)) == ("running", [])
    assert len(list(attempt.bench.layout.studies.rglob("*.dcm"))) == 4
    attempt.second_ends(leaves_links=True)


def test_ft_14_killed_before_the_ring_is_answered(attempt: Attempt) -> None:
    job = attempt.first_dies("dies(results, 'register', True)")
    assert (job.state, len(attempt.bench.results(job.id))) == ("succeeded", 2)
    assert attempt.bench.layout.job(job.id).input.exists(), "the lane had gone on"
    # gearmand gives the ring, which nobody answered, to the next worker: there is nothing to run.
    attempt.second_ends(attempt=1)


def kill(worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGKILL)
    worker.wait()
