"""What is superseded waits for nobody: its results are kept, never delivered, never released."""

from __future__ import annotations

from dataclasses import replace

from appliance.index import attempts, job_list, jobs, retention
from appliance.index.attempts import Finish
from appliance.index.database import Database
from tests.unit.index.test_moves_of_a_job import NOW, claim, create, get, new_job

HELD = Finish("success", result_count=1, is_held=True)


def end(db: Database, finish: Finish = HELD) -> int:
    job = claim(db, lanes=9)
    assert job is not None
    with db.write() as connection:
        attempts.finish(connection, job, finish, NOW)
    return job.id


def held_studies(db: Database) -> list[str]:
    with db.read() as connection:
        return [one.reason for one in retention.hindrances(connection)]


def test_a_held_job_that_is_superseded_waits_for_nobody(db: Database) -> None:
    create(db, new_job(incomplete=True))
    older = end(db)
    assert get(db, older).is_held
    with db.read() as connection:
        assert job_list.count_held(connection) == 1
    create(db, new_job(input_digest="more"))
    assert not get(db, older).is_held


def test_a_job_that_is_superseded_while_it_runs_is_not_held_at_its_end(db: Database) -> None:
    older = create(db, new_job(incomplete=True))
    running = claim(db, lanes=9)
    assert running is not None
    create(db, new_job(input_digest="more"))
    with db.write() as connection:
        attempts.finish(connection, running, HELD, NOW)
    assert not get(db, older).is_held


def test_a_job_without_results_waits_for_nobody(db: Database) -> None:
    create(db, new_job(incomplete=True))
    assert not get(db, end(db, replace(HELD, outcome="partial", result_count=0))).is_held


def test_a_job_that_failed_has_nothing_to_release(db: Database) -> None:
    create(db, new_job(incomplete=True))
    failed = end(db, replace(HELD, outcome="failed", result_count=0))
    assert not get(db, failed).is_held
    jobs.retry(db, failed, NOW)
