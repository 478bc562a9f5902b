"""What the index tells of failing streams, destinations that are down, and long waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from appliance.index import attempts, deliveries, events, jobs, troubles
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.index.troubles import Down
from tests.unit.index.test_deliveries import claim, make
from tests.unit.index.test_moves_of_a_job import new_job

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=7)
MINUTE = timedelta(minutes=1)


def run(db: Database, outcome: str, at: datetime, study: str) -> int:
    with db.write() as connection:
        job_id = jobs.create(connection, new_job(study_uid=study), at)
    job = attempts.claim_next(
        db, "ECHO", lanes=1, worker="h/1/1", lease=timedelta(hours=1), now=at
    )
    assert job is not None and job.id == job_id
    with db.write() as connection:
        attempts.finish(connection, job, Finish(outcome), at)
    return job_id


def failed(db: Database) -> dict[str, int]:
    with db.read() as connection:
        return troubles.failed_in_a_row(connection, LONG_AGO)


def test_failures_count_since_the_last_good_job(db: Database) -> None:
    for minute, outcome in enumerate(["failed", "success", "failed", "failed"]):
        run(db, outcome, NOW + minute * MINUTE, f"1.{minute}")
    assert failed(db) == {"ECHO": 2}
    run(db, "partial", NOW + 9 * MINUTE, "1.9")
    assert failed(db) == {}


def test_what_failed_long_ago_is_forgotten(db: Database) -> None:
    run(db, "failed", LONG_AGO - MINUTE, "1.1")
    assert failed(db) == {}


def down(db: Database) -> list[Down]:
    with db.read() as connection:
        return troubles.destinations_down(connection)


def test_a_destination_is_down_from_its_first_failure_to_its_next_success(db: Database) -> None:
    make(db, "pacs", ("1.1",))
    assert down(db) == [], "nothing was tried yet"
    delivery = claim(db, NOW)
    assert delivery is not None
    assert down(db) == [], "it is being sent for the first time"
    deliveries.retry_at(db, delivery, NOW + MINUTE, "No answer.", "look")
    assert down(db) == [Down("pacs", NOW, 1)]
    again = claim(db, NOW + MINUTE)
    assert again is not None
    assert down(db) == [Down("pacs", NOW, 1)], "while it is tried again it is still down"
    deliveries.delivered(db, again, "Sent.", NOW + MINUTE)
    assert down(db) == []


def test_one_that_takes_some_is_not_down_since_longer_than_that(db: Database) -> None:
    make(db, "pacs", ("1.1",))
    bad = claim(db, NOW)
    assert bad is not None
    deliveries.retry_at(db, bad, NOW + timedelta(hours=1), "Not taken.", "look")
    make(db, "pacs", ("1.2",))
    good = claim(db, NOW + 5 * MINUTE)
    assert good is not None
    deliveries.delivered(db, good, "Sent.", NOW + 5 * MINUTE)
    assert down(db) == [Down("pacs", NOW + 5 * MINUTE, 1)]


def test_what_was_given_up_is_counted_unless_a_newer_job_replaced_it(db: Database) -> None:
    make(db, "pacs", ("1.1",))
    delivery = claim(db, NOW)
    assert delivery is not None
    deliveries.give_up(db, delivery, "Refused.", "look", NOW)
    with db.read() as connection:
        assert troubles.given_up(connection, NOW - MINUTE) == {"pacs": 1}
        assert troubles.given_up(connection, NOW + MINUTE) == {}
    with db.write() as connection:
        jobs.create(connection, new_job(), NOW)
        assert troubles.given_up(connection, NOW - MINUTE) == {}


def test_the_oldest_of_each_stream_waits_and_a_retry_begins_anew(db: Database) -> None:
    with db.write() as connection:
        oldest = jobs.create(connection, new_job(study_uid="1.1"), NOW)
        other = jobs.create(connection, new_job(study_uid="1.2"), NOW + MINUTE)

    def waits(before: datetime) -> list[tuple[str, int | None]]:
        with db.read() as connection:
            found = troubles.waiting_longest(connection, before)
        return [(one.ae_title, one.job_id) for one in found]

    assert waits(NOW - MINUTE) == []
    assert waits(NOW + MINUTE) == [("ECHO", oldest)]
    with db.write() as connection:
        later = NOW + timedelta(days=3)
        events.append(connection, "job retried", "Again.", later, job_id=oldest)
    assert waits(NOW + 2 * MINUTE) == [("ECHO", other)]


def test_a_job_that_cannot_run_is_hindered_and_one_that_was_put_back_is_not(db: Database) -> None:
    with db.write() as connection:
        first = jobs.create(connection, new_job(study_uid="1.1"), NOW)
    hour = timedelta(hours=1)

    def hindered(before: datetime) -> list[int | None]:
        with db.read() as connection:
            return [one.job_id for one in troubles.hindered_longest(connection, before)]

    assert hindered(NOW + MINUTE) == [], "it waits for its turn"
    jobs.set_wait_reason(db, "ECHO", "Image x is not on this machine.", NOW)
    assert hindered(NOW + MINUTE) == [first] and hindered(NOW - MINUTE) == []
    job = attempts.claim_next(db, "ECHO", lanes=1, worker="h/1/1", lease=hour, now=NOW + hour)
    assert job is not None
    attempts.requeue(
        db, job, NOW + hour, reason="The worker ended.", counts=False, max_attempts=9
    )
    assert hindered(NOW + 2 * MINUTE) == [], "it was tried since"
    jobs.set_wait_reason(db, "ECHO", "Image x is not on this machine.", NOW + hour)
    assert hindered(NOW + 2 * hour) == [first]
