"""The worker as a process of its own: order, lanes, kills, cancel, stop; streams are processes."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import bells
from appliance.index import job_list, jobs, lanes
from appliance.index.jobs import Job
from appliance.index.states import Ending
from appliance.intake.adoption import adopt
from appliance.streams.catalog import read_streams
from appliance.worker.plain_process import ProcessExecutor
from tests.kit import dicom
from tests.kit.bench import Bench
from tests.kit.gearmand import Gearmand
from tests.kit.scripts import COPY_ONE, HELD, QUICK, SLEEP
from tests.kit.waiting import wait_for


@pytest.fixture
def gearmand() -> Iterator[Gearmand]:
    one = Gearmand()
    yield one
    one.kill()


@pytest.fixture
def bench(tmp_path: Path, gearmand: Gearmand) -> Iterator[Bench]:
    one = Bench(tmp_path, gearmand.server)
    yield one
    one.stop()


def served(bench: Bench, *ae_titles: str) -> None:
    """Wait until lanes of these streams are open."""

    def open_lanes() -> bool:
        with bench.db.read() as connection:
            found = lanes.lanes_since(connection, datetime.min.replace(tzinfo=UTC, year=2000))
        return set(ae_titles) <= {lane.ae_title for lane in found if lane.is_open}

    wait_for(open_lanes, f"lanes of {ae_titles}", 20)


def in_order_of_start(found: list[Job]) -> list[int]:
    return [job.id for job in sorted(found, key=lambda job: job.started_at or job.created_at)]


def overlaps(found: list[Job]) -> bool:
    spans = sorted((job.started_at, job.ended_at) for job in found)
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))  # type: ignore[operator]


def open_gates(bench: Bench) -> None:
    for folder in (bench.home / "streams").iterdir():
        (folder / "gate").touch()


def test_a_study_runs_and_its_result_is_kept(bench: Bench) -> None:
    bench.stream("QUICK", QUICK, settings={"a": 1})
    bench.start("dispatcher")
    bench.start("worker")
    served(bench, "QUICK")
    study = dicom.ct_study(3)
    bench.send_study(study, "QUICK")
    [job] = bench.wait_for_jobs(1)
    assert (job.state, job.reason, job.exit_code, job.executor) == ("succeeded", "", 0, "process")
    [result] = bench.results(job.id)
    assert (bench.layout.root / result.path).is_file()
    assert result.study_uid == study[0].StudyInstanceUID
    folder = bench.layout.job(job.id)
    wait_for(lambda: not folder.input.exists(), "INPUT is removed")
    told = json.loads(folder.info.read_text())
    assert told["job"] == job.id
    assert told["calling_ae_title"] == "CT1"
    assert told["study_uid"] == job.study_uid
    assert told["stream"]["settings"] == {"a": 1}
    wait_for(folder.record.exists, "the record is written")
    record = json.loads(folder.record.read_text())
    assert (record["id"], record["state"]) == (job.id, "succeeded")
    assert record["results"] == [result.sop_instance_uid]
    assert set(record["inputs"]) == {ds.SOPInstanceUID for ds in study}
    assert [step["name"] for step in record["steps"]] == ["prepare", "run", "import results"]
    assert "started" in folder.log.read_text()


def test_from_complete_to_the_run_it_takes_less_than_half_a_second(bench: Bench) -> None:
    bench.stream("QUICK", QUICK)
    bench.start("dispatcher")
    bench.start("worker")
    served(bench, "QUICK")
    took = []
    for number in range(1, 5):
        bench.send_study(dicom.ct_study(2), "QUICK")
        job = bench.wait_for_jobs(number)[-1]
        with bench.db.read() as connection:
            [run] = [one for one in job_list.steps_of(connection, job.id) if one.name == "run"]
        took.append((run.started_at - job.last_instance_at).total_seconds() - 0.5)
    print("from complete to run:", ", ".join(f"{s * 1000:.0f} ms" for s in took))
    assert min(took) >= 0
    assert max(took) < 0.5


def test_five_studies_run_one_at_a_time_in_the_order_they_came(bench: Bench) -> None:
    bench.stream("SLEEP", SLEEP, settings={"seconds": 0.3})
    bench.start("dispatcher")
    for number in range(5):
        bench.send_study(dicom.ct_study(1), "SLEEP")
        bench.wait_for_jobs(number + 1, "queued")
    bench.start("worker")
    done = bench.wait_for_jobs(5, "succeeded")
    assert in_order_of_start(done) == [1, 2, 3, 4, 5]
    assert not overlaps(done)


def test_two_streams_run_side_by_side_and_two_workers_keep_to_one_lane(bench: Bench) -> None:
    bench.stream("LEFT", HELD)
    bench.stream("RIGHT", HELD)
    bench.start("dispatcher")
    bench.start("worker")
    bench.start("worker")
    served(bench, "LEFT", "RIGHT")
    for ae_title in ("LEFT", "RIGHT"):
        for _ in range(3):
            bench.send_study(dicom.ct_study(1), ae_title)
    running = bench.wait_for_jobs(2, "running")
    bench.wait_for_jobs(4, "queued")
    time.sleep(1.5)  # long enough for a wrong claim: every waiting job is rung again each second
    assert {job.ae_title for job in bench.jobs("running")} == {"LEFT", "RIGHT"}
    assert len(running) == 2
    open_gates(bench)
    done = bench.wait_for_jobs(6, "succeeded")
    assert not overlaps([job for job in done if job.ae_title == "LEFT"])
    assert not overlaps([job for job in done if job.ae_title == "RIGHT"])


def test_two_lanes_run_two_jobs_of_one_stream(bench: Bench) -> None:
    bench.stream("WIDE", HELD, lanes=2)
    bench.start("dispatcher")
    bench.start("worker")
    for _ in range(3):
        bench.send_study(dicom.ct_study(1), "WIDE")
    bench.wait_for_jobs(2, "running")
    assert len(bench.wait_for_jobs(1, "queued")) == 1
    open_gates(bench)
    bench.wait_for_jobs(3, "succeeded")


def test_high_priority_overtakes_what_waits_and_not_what_runs(bench: Bench) -> None:
    bench.stream("MIXED", HELD)
    bench.start("dispatcher")
    bench.start("worker")
    for number in range(2):
        bench.send_study(dicom.ct_study(1), "MIXED")
        wait_for(lambda n=number: len(bench.jobs()) == n + 1, "the study is a job", 10)
    bench.wait_for_jobs(1, "running")
    bench.stream("MIXED", HELD, priority="high")
    time.sleep(2)  # a folder counts once it has settled
    bench.send_study(dicom.ct_study(1), "MIXED")
    wait_for(lambda: len(bench.jobs()) == 3, "the urgent study is a job", 10)
    open_gates(bench)
    assert in_order_of_start(bench.wait_for_jobs(3, "succeeded")) == [1, 3, 2]


def test_kill_of_the_worker_runs_the_job_again_and_registers_its_result_once(bench: Bench) -> None:
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    worker = bench.start("worker")
    bench.send_study(dicom.ct_study(2), "HELD")
    [job] = bench.wait_for_jobs(1, "running")
    wait_for(lambda: (bench.layout.job(job.id).output / "one.dcm").exists(), "it works", 20)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    bench.start("worker")
    open_gates(bench)
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert (job.attempt, job.tries, job.result_count) == (2, 2, 1)
    assert len(bench.results(job.id)) == 1


# Each patches one function so that the first worker dies in it.
DIES = """
import os, signal
from appliance.index import attempts
from appliance.intake import results
from appliance.worker import harvest, prepare, record, run_job
from appliance.worker.plain_process import ProcessExecutor
def dies(of, name, after):
    whole = getattr(of, name)
    def dying(*args, **kwargs):
        if after:
            whole(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(of, name, dying)
"""
MOMENTS = {
    "after the claim": "dies(run_job, 'prepare', False)",
    "before the run": "dies(ProcessExecutor, 'run', False)",
    "after the run": "dies(ProcessExecutor, 'run', True)",
    "when a result is staged": "dies(results, 'stage', True)",
    "before the results are registered": "dies(results, 'register', False)",
    "when the results are linked": "dies(results, '_link_all', True)",
    "when the results are registered": "dies(results, 'register', True)",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_of_the_worker_at_any_moment_gives_the_results_once(bench: Bench, moment: str) -> None:
    bench.stream("QUICK", QUICK)
    bench.start("dispatcher")
    worker = bench.start("worker", DIES + MOMENTS[moment] + "\n")
    bench.send_study(dicom.ct_study(2), "QUICK")
    worker.wait(40)
    bench.start("worker")
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert job.result_count == 1
    [result] = bench.results(job.id)
    folder = bench.layout.job(job.id)
    wait_for(lambda: folder.record.exists() and not folder.input.exists(), "it is settled", 20)
    assert (bench.layout.root / result.path).is_file()
    stored = {path.stem for path in bench.layout.studies.rglob("*.dcm")}
    assert len(stored) == 3
    # What was linked stays for adoption, which the housekeeper calls.
    adopt(bench.db, bench.layout, read_streams(bench.home / "streams"), datetime.now(UTC))
    assert not list(bench.layout.incoming.glob("job-*"))
    assert (bench.layout.root / result.path).is_file()


def test_a_worker_that_slept_past_its_lease_gives_up_quietly(bench: Bench) -> None:
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    slept = bench.start("worker")
    bench.send_study(dicom.ct_study(1), "HELD")
    [job] = bench.wait_for_jobs(1, "running")
    wait_for(lambda: bench.layout.job(job.id).log.exists(), "it runs", 20)
    slept.send_signal(signal.SIGSTOP)
    try:
        bench.start("worker")
        wait_for(lambda: bench.jobs()[0].attempt == 2, "the job goes again", 30)
        open_gates(bench)
        [job] = bench.wait_for_jobs(1, "succeeded")
    finally:
        slept.send_signal(signal.SIGCONT)
    wait_for(lambda: "lease lost" in bench.log("worker"), "it gave up", 20)
    assert (job.attempt, job.result_count, len(bench.results(job.id))) == (2, 1, 1)
    assert bench.jobs()[0].state == "succeeded"


def test_kill_of_gearmand_idle_with_jobs_waiting_and_with_one_running_loses_nothing(
    bench: Bench, gearmand: Gearmand
) -> None:
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    bench.start("worker")
    served(bench, "HELD")
    gearmand.kill()  # idle
    gearmand.start()
    for number in range(3):
        bench.send_study(dicom.ct_study(1), "HELD")
        wait_for(lambda n=number: len(bench.jobs()) == n + 1, "the study is a job", 10)
    bench.wait_for_jobs(1, "running")
    gearmand.kill()  # one runs, two wait
    gearmand.start()
    open_gates(bench)
    done = bench.wait_for_jobs(3, "succeeded")
    assert in_order_of_start(done) == [1, 2, 3]
    assert [job.attempt for job in done] == [1, 1, 1]
    assert [len(bench.results(job.id)) for job in done] == [1, 1, 1]


def test_a_person_cancels_a_running_job(bench: Bench) -> None:
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "HELD")
    [job] = bench.wait_for_jobs(1, "running")
    wait_for(lambda: bench.layout.job(job.id).log.exists(), "it runs", 20)
    jobs.cancel(bench.db, job.id, "anna", datetime.now(UTC))
    bells.ring(bench.layout.run, "worker")
    began = time.monotonic()
    [job] = bench.wait_for_jobs(1, "cancelled", seconds=15)
    print(f"cancelled after {time.monotonic() - began:.1f} s")
    assert job.reason == "It was cancelled by anna."
    record = bench.layout.job(job.id).record
    wait_for(record.exists, "the record is written, after the row")
    assert json.loads(record.read_text())["cancelled_by"] == "anna"
    assert bench.results(job.id) == []


def test_a_stopped_worker_puts_its_job_back_without_counting(bench: Bench) -> None:
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    worker = bench.start("worker")
    bench.send_study(dicom.ct_study(1), "HELD")
    [job] = bench.wait_for_jobs(1, "running")
    wait_for(lambda: bench.layout.job(job.id).log.exists(), "it runs", 20)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(45) == 0
    print(f"stopped after {time.monotonic() - began:.1f} s")
    [job] = bench.jobs()
    assert (job.state, job.tries, job.attempt) == ("queued", 0, 1)
    with bench.db.read() as connection:
        assert lanes.lanes_since(connection, datetime.min.replace(tzinfo=UTC, year=2000)) == []
    open_gates(bench)
    bench.start("worker")
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert (job.tries, job.attempt) == (1, 2)


def test_a_stream_that_kills_its_worker_fails_after_three_attempts(bench: Bench) -> None:
    # Nobody's process cannot signal the worker, so the test plays the stream's part.
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    for attempt in (1, 2, 3):
        worker = bench.start("worker")
        if attempt == 1:
            bench.send_study(dicom.ct_study(1), "HELD")
        wait_for(
            lambda n=attempt: bench.jobs("running") and bench.jobs()[0].attempt == n, "runs", 30
        )
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    [job] = bench.wait_for_jobs(1, "failed")
    assert "given up after 3 attempts" in job.reason


def test_an_incomplete_study_is_held_for_a_person(bench: Bench) -> None:
    bench.stream("QUICK", QUICK)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "QUICK", Ending.ABORTED)
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert job.incomplete
    assert job.is_held


PROGRESS = (
    COPY_ONE
    + """
out = pathlib.Path(os.environ["BROOKBOX_OUTPUT"])
(out / "progress.json").write_text(json.dumps({"done": 3, "of": 12, "step": "segmenting"}))
gate = pathlib.Path(__file__).parent / "gate"
while not gate.exists():
    time.sleep(0.05)
make()
(out / "notes.txt").write_text("kept for download")
(out / "proc.json").write_text(json.dumps([{"success": "partial", "message": "half of it"}]))
"""
)


def test_progress_is_seen_while_it_runs_and_proc_json_tells_the_outcome(bench: Bench) -> None:
    bench.stream("TELLS", PROGRESS)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "TELLS")
    wait_for(lambda: bench.jobs() and bench.jobs()[0].progress_done == 3, "the progress", 20)
    assert bench.jobs()[0].progress_step == "segmenting"
    assert bench.jobs()[0].progress_of == 12
    open_gates(bench)
    [job] = bench.wait_for_jobs(1, "partial")
    assert job.message == "half of it"
    assert job.result_count == 1
    assert "1 other file is kept" in job.reason


def test_a_stream_dropped_in_edited_and_removed_is_followed(bench: Bench) -> None:
    def lane() -> lanes.Lane | None:
        with bench.db.read() as connection:
            found = lanes.lanes_since(connection, datetime.min.replace(tzinfo=UTC, year=2000))
        return next((one for one in found if one.ae_title == "LATER"), None)

    bench.start("dispatcher")
    bench.start("worker")
    folder = bench.stream("LATER", QUICK)
    began = time.monotonic()
    served(bench, "LATER")
    assert time.monotonic() - began < 5
    bench.send_study(dicom.ct_study(1), "LATER")
    bench.wait_for_jobs(1, "succeeded")
    is_confined = ProcessExecutor(bench.settings).is_confined
    assert (one := lane()) and (one.executor, one.is_confined) == ("process", is_confined)
    bench.stream("LATER", QUICK, enabled=0)
    wait_for(lambda: (one := lane()) and not one.is_open, "the lane is closed", 10)
    assert "switched off" in lane().why_not  # type: ignore[union-attr]
    (folder / "info.json").write_text("{ this is no JSON")
    wait_for(lambda: (one := lane()) is None or "info.json" in one.why_not, "it is told", 10)


def test_a_job_whose_stream_cannot_run_waits_with_the_reason_and_runs_when_it_can(
    bench: Bench,
) -> None:
    bench.stream("WAITS", QUICK, models="weights")
    (bench.home / "streams" / "waits" / "weights").mkdir()
    bench.stream("WAITS", QUICK, trusted=True, gpus=2)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "WAITS")
    wait_for(lambda: bench.jobs() and "GPU" in bench.jobs()[0].wait_reason, "the reason", 20)
    assert bench.jobs()[0].state == "queued"
    bench.stream("WAITS", QUICK)
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert job.wait_reason == ""


def test_a_failing_stream_fails_its_job_and_the_next_job_runs(bench: Bench) -> None:
    script = COPY_ONE + "make()\nsys.exit(3 if job['job'] == 1 else 0)\n"
    bench.stream("FAILS", script)
    bench.start("dispatcher")
    bench.start("worker")
    for _ in range(2):
        bench.send_study(dicom.ct_study(1), "FAILS")
    bench.wait_for_jobs(2)
    first, second = bench.jobs()
    assert (first.state, first.exit_code, first.result_count) == ("failed", 3, 0)
    assert first.reason
    assert first.remedy
    assert bench.results(first.id) == []
    assert (second.state, second.result_count) == ("succeeded", 1)
    jobs.retry(bench.db, first.id, datetime.now(UTC))
    bells.ring(bench.layout.run, "dispatcher")
    wait_for(lambda: bench.jobs()[0].attempt == 2, "it runs again", 20)


def test_a_mistake_in_the_upkeep_ends_the_worker_so_that_it_starts_again(bench: Bench) -> None:
    broken = "from appliance.worker import seats\nseats.Seats.follow = lambda *_: 1 / 0\n"
    worker = bench.start("worker", broken)
    assert worker.wait(20) == 1
    assert "ZeroDivisionError" in bench.log("worker")


def test_a_mistake_in_one_attempt_costs_that_attempt_only(bench: Bench) -> None:
    bench.stream("QUICK", QUICK)
    bench.start("dispatcher")
    broken = (
        "from appliance.worker import run_job\nwhole, left = run_job.prepare, [1]\n"
        "def once(*args, **kwargs):\n"
        "    return whole(*args, **kwargs) if not left else 1 / left.pop() - 1 / 0\n"
        "run_job.prepare = once\n"
    )
    bench.start("worker", broken)
    bench.send_study(dicom.ct_study(1), "QUICK")
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert (job.attempt, job.tries) == (2, 2)
