"""What a worker leaves when it sleeps, is stopped, killed again and again, or errs."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime

import psutil

from appliance.index import lanes
from tests.kit import dicom
from tests.kit.bench import Bench
from tests.kit.gearmand import Gearmand
from tests.kit.scripts import HELD, QUICK
from tests.kit.waiting import wait_for
from tests.service.worker.lane_facts import in_order_of_start, open_gates, served


def test_a_worker_that_slept_past_its_lease_gives_up_quietly(bench: Bench) -> None:
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    slept = bench.start("worker")
    bench.send_study(dicom.ct_study(1), "HELD")
    [job] = bench.wait_for_jobs(1, "running")
    wait_for(lambda: bench.layout.job(job.id).log.exists(), "it runs", 20)
    # Stopped in the middle of a write it would keep everybody else from writing.
    with bench.db.write():
        slept.send_signal(signal.SIGSTOP)
        stopped = psutil.Process(slept.pid)
        wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED, "it is stopped")
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


def test_ft_15_gearmand_killed_idle_with_jobs_waiting_and_with_one_running_loses_nothing(
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


def test_a_mistake_in_the_upkeep_ends_the_worker_so_that_it_starts_again(bench: Bench) -> None:
    broken = "from appliance.worker import seats\nseats.Seats.follow = lambda *_: 1 / 0\n"
    worker = bench.start("worker", broken, may_end=True)
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


def test_a_job_whose_files_are_gone_fails_and_says_so(bench: Bench) -> None:
    bench.stream("QUICK", QUICK)
    bench.start("dispatcher")
    bench.send_study(dicom.ct_study(2), "QUICK")
    [job] = bench.wait_for_jobs(1, "queued")
    next(path for path in bench.layout.studies.rglob("*.dcm")).unlink()
    bench.start("worker")
    [job] = bench.wait_for_jobs(1, "failed")
    assert job.reason == "Only 1 of its 2 instances have a file in the store."
    assert "brookbox index check" in job.remedy
