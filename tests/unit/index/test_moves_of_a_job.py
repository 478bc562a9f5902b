"""Each move of a job is a compare-and-set: what may move moves once, whoever else tries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.errors import JobError, LeaseLost, NotFound
from appliance.index import attempts, events, job_list, jobs
from appliance.index.database import Database
from appliance.index.jobs import Job, NewJob

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE = timedelta(seconds=60)
WORKER = "host/1/1.0"


def new_job(study_uid: str = "1.2", **facts: object) -> NewJob:
    job = NewJob(
        ae_title="ECHO",
        study_uid=study_uid,
        series_uid="",
        priority=0,
        calling_ae_title="CT1",
        address="127.0.0.1",
        input_digest="d",
        inputs=("1.2.3",),
        result_seed="s",
        incomplete=False,
        first_instance_at=NOW,
        last_instance_at=NOW,
    )
    return replace(job, **facts)  # type: ignore[arg-type]


def create(db: Database, job: NewJob) -> int:
    with db.write() as connection:
        return jobs.create(connection, job, NOW)


def get(db: Database, job_id: int) -> Job:
    with db.read() as connection:
        return jobs.get(connection, job_id)


def claim(db: Database, lanes: int = 1, now: datetime = NOW, **more: object) -> Job | None:
    return attempts.claim_next(
        db,
        "ECHO",
        lanes=lanes,
        worker=WORKER,
        lease=LEASE,
        now=now,
        **more,  # type: ignore[arg-type]
    )


def test_jobs_are_claimed_oldest_first_and_high_before_normal(db: Database) -> None:
    first, second = create(db, new_job("1.1")), create(db, new_job("1.2"))
    urgent = create(db, new_job("1.3", priority=1))
    claimed = [claim(db, lanes=9) for _ in range(4)]
    assert [job.id if job else None for job in claimed] == [urgent, first, second, None]


def test_a_stream_never_runs_more_jobs_than_lanes_however_many_workers_claim(db: Database) -> None:
    for number in range(20):
        create(db, new_job(f"1.{number}"))
    with ThreadPoolExecutor(8) as pool:
        claimed = [job for job in pool.map(lambda _: claim(db, lanes=3), range(16)) if job]
    assert len(claimed) == 3
    assert len({job.id for job in claimed}) == 3


def test_one_gpu_is_lent_to_one_job_at_a_time(db: Database) -> None:
    for number in range(3):
        create(db, new_job(f"1.{number}"))
    held = [claim(db, lanes=9, gpus=1, devices=("0", "1")) for _ in range(3)]
    assert [job.gpu_devices if job else None for job in held] == ["0", "1", None]
    assert held[0] is not None
    with db.write() as connection:
        attempts.finish(connection, held[0], attempts.Finish("success"), NOW)
    again = claim(db, lanes=9, gpus=1, devices=("0", "1"))
    assert again is not None
    assert again.gpu_devices == "0"


def test_an_attempt_that_was_replaced_cannot_finish_the_job(db: Database) -> None:
    create(db, new_job())
    old = claim(db)
    assert old is not None
    attempts.requeue(db, old, NOW, reason="silent", counts=True, max_attempts=3)
    new = claim(db)
    assert new is not None
    assert new.attempt == old.attempt + 1
    with pytest.raises(LeaseLost), db.write() as connection:
        attempts.finish(connection, old, attempts.Finish("success"), NOW)
    with pytest.raises(LeaseLost):
        attempts.renew(db, old, LEASE, NOW)
    with db.write() as connection:
        attempts.finish(connection, new, attempts.Finish("partial"), NOW)
    assert get(db, new.id).state == "partial"


def test_a_job_that_kills_its_worker_fails_after_max_attempts(db: Database) -> None:
    job_id = create(db, new_job())
    states = []
    for _ in range(3):
        job = claim(db)
        assert job is not None
        states.append(attempts.requeue(db, job, NOW, reason="x", counts=True, max_attempts=3))
    assert states == ["queued", "queued", "failed"]
    assert "3 attempts" in get(db, job_id).reason


def test_an_orderly_stop_does_not_count_as_an_attempt(db: Database) -> None:
    job_id = create(db, new_job())
    for _ in range(5):
        job = claim(db)
        assert job is not None
        attempts.requeue(db, job, NOW, reason="stopped", counts=False, max_attempts=1)
    assert get(db, job_id).state == "queued"
    assert get(db, job_id).attempt == 5


def test_a_deferred_job_is_not_claimed_before_its_time(db: Database) -> None:
    create(db, new_job())
    job = claim(db)
    assert job is not None
    later = NOW + timedelta(seconds=30)
    attempts.requeue(db, job, NOW, reason="dockerd", counts=False, max_attempts=3, not_before=later)
    assert claim(db) is None
    assert claim(db, now=later) is not None


def test_a_newer_job_of_the_same_study_supersedes_what_waits_and_marks_what_runs(
    db: Database,
) -> None:
    running, waiting = create(db, new_job()), None
    assert claim(db) is not None
    waiting = create(db, new_job(input_digest="e"))
    newest = create(db, new_job(input_digest="f"))
    assert get(db, running).state == "running"
    assert get(db, running).superseded_by == waiting
    assert get(db, waiting).state == "cancelled"
    assert get(db, waiting).cancelled_by == "the dispatcher"
    assert get(db, newest).supersedes == waiting


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_worker(db: Database) -> None:
    waiting = create(db, new_job("1.1"))
    assert jobs.cancel(db, waiting, "anna", NOW) == "cancelled"
    running = create(db, new_job("1.2"))
    job = claim(db)
    assert job is not None
    assert jobs.cancel(db, running, "anna", NOW) == "running"
    assert attempts.renew(db, job, LEASE, NOW) is True
    with db.write() as connection:
        attempts.finish_cancelled(connection, job, NOW)
    assert get(db, running).state == "cancelled"
    assert get(db, running).reason == "It was cancelled by anna."
    with pytest.raises(JobError) as caught:
        jobs.cancel(db, running, "anna", NOW)
    assert caught.value.remedy == f"to run it again: brookbox jobs retry {running}"


def test_an_index_keeps_who_cancelled_a_job(db: Database) -> None:
    waiting, running = create(db, new_job("1.1")), create(db, new_job("1.2", priority=1))
    job = claim(db)
    assert job is not None and job.id == running
    jobs.cancel(db, waiting, "anna", NOW)
    assert get(db, waiting).cancelled_by == "anna"
    jobs.cancel(db, running, "anna", NOW)
    jobs.cancel(db, running, "bert", NOW)
    assert get(db, running).cancelled_by == "anna", "the first who asked"
    with db.write() as connection:
        attempts.finish_cancelled(connection, job, NOW)
        [event] = events.latest(connection, 1, job_id=running)
    assert get(db, running).cancelled_by == event.who == "anna"
    assert jobs.retry(db, running, NOW).cancelled_by == ""


def test_a_job_that_is_put_back_after_somebody_cancelled_it_ends(db: Database) -> None:
    create(db, new_job())
    job = claim(db)
    assert job is not None
    jobs.cancel(db, job.id, "anna", NOW)
    # The attempt knows the job only as it was when it was claimed.
    state = attempts.requeue(db, job, NOW, reason="stopped", counts=False, max_attempts=3)
    assert (state, get(db, job.id).reason) == ("cancelled", "It was cancelled by anna.")


def test_a_job_that_ends_before_its_cancel_reaches_it_was_cancelled_by_nobody(
    db: Database,
) -> None:
    create(db, new_job())
    job = claim(db)
    assert job is not None
    jobs.cancel(db, job.id, "anna", NOW)
    with db.write() as connection:
        attempts.finish(connection, job, attempts.Finish("success"), NOW)
    assert get(db, job.id).cancelled_by == ""


def test_only_a_failed_or_cancelled_job_is_retried(db: Database) -> None:
    job_id = create(db, new_job())
    with pytest.raises(JobError):
        jobs.retry(db, job_id, NOW)
    job = claim(db)
    assert job is not None
    with db.write() as connection:
        attempts.finish(connection, job, attempts.Finish("failed", reason="no"), NOW)
    again = jobs.retry(db, job_id, NOW)
    assert (again.state, again.reason, again.tries) == ("queued", "", 0)
    assert again.result_seed == job.result_seed


def test_an_unknown_job_is_not_found(db: Database) -> None:
    with pytest.raises(NotFound):
        get(db, 4711)


def test_steps_end_when_the_next_begins_and_when_the_job_ends(db: Database) -> None:
    create(db, new_job())
    job = claim(db)
    assert job is not None
    attempts.begin_step(db, job, "prepare", NOW)
    attempts.begin_step(db, job, "run", NOW + timedelta(seconds=1))
    with db.write() as connection:
        attempts.finish(connection, job, attempts.Finish("success"), NOW + timedelta(seconds=5))
        steps = job_list.steps_of(connection, job.id)
    spans = [(step.name, (step.ended_at or NOW) - step.started_at) for step in steps]
    assert spans == [("prepare", timedelta(seconds=1)), ("run", timedelta(seconds=4))]


def test_a_job_that_was_put_back_says_why_it_waits_once_its_pause_is_over(db: Database) -> None:
    id, later = create(db, new_job()), NOW + LEASE
    job = claim(db)
    assert job is not None
    attempts.requeue(
        db, job, NOW, reason="It fell.", counts=False, max_attempts=3, not_before=later
    )
    jobs.set_wait_reason(db, "ECHO", "Docker does not answer", NOW)
    assert get(db, id).wait_reason == "It fell."
    jobs.set_wait_reason(db, "ECHO", "Docker does not answer", later)
    assert get(db, id).wait_reason == "Docker does not answer"


def test_the_jobs_of_one_study_are_counted_over_all_streams(db: Database) -> None:
    first, other = create(db, new_job("1.1")), create(db, new_job("1.9"))
    second = create(db, new_job("1.1", ae_title="MONTAGE"))
    with db.read() as connection:
        counts = [
            job_list.earlier_of_study(connection, jobs.get(connection, job_id))
            for job_id in (first, other, second)
        ]
    assert counts == [0, 0, 1]
