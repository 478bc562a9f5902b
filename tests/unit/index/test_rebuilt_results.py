"""Results and ends of jobs in an index that is made again: whose they are, and what is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from appliance.index import catalog, events, job_records, jobs, rebuild
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.events import Event
from appliance.index.rebuild import StoredFile, Told
from tests.unit.index.test_rebuild import LATER, NOW, again, fill, header, queue, stored, told

SOON = NOW + timedelta(minutes=1)


def received(study: str, name: str, called: str = "MONTAGE") -> StoredFile:
    return stored(header(study, name), NOW, called)


def result(study: str, name: str, at: datetime = SOON) -> StoredFile:
    return replace(stored(header(study, name), at, ""), is_result=True)


def made_by(db: Database) -> dict[str, int | None]:
    """Map the SOP Instance UIDs that an index holds to the job that made each."""
    i = t.instances.c
    with db.read() as connection:
        rows = connection.execute(sa.select(i.sop_instance_uid, i.made_by_job))
        return {row.sop_instance_uid: row.made_by_job for row in rows}


def ends(db: Database) -> list[Event]:
    with db.read() as connection:
        found = events.latest(connection, 10_000)
    return [one for one in reversed(found) if one.kind.startswith("job ")]


# -- results that no record names --------------------------------------------------------------


def test_a_result_of_a_job_that_comes_again_is_left_over(db: Database) -> None:
    left = result("1.1", "7")
    done = again(db, [received("1.1", "1"), left], [])
    assert (done.instances, done.arrivals, done.leftovers) == (1, 1, (left.path,))
    assert set(made_by(db)) == {"1.1.1"}


def test_a_result_that_a_record_names_is_its_jobs(db: Database, empty: Database) -> None:
    files, records = fill(db)
    files[2] = replace(files[2], is_result=True)
    late = received("1.1", "3")
    late = replace(late, written_at=LATER)
    done = again(empty, [*files, late], records)
    assert (done.leftovers, done.arrivals) == ((), 1), "though a job of its study comes"
    assert made_by(empty)["1.1.7"] == 1


@pytest.mark.parametrize("called", ["GONE", "BROOKBOX"])
def test_a_result_that_nobody_makes_again_is_kept(db: Database, called: str) -> None:
    files = [received("1.1", "1", called), result("1.1", "7"), received("1.2", "1")]
    done = again(db, files, [])
    assert (done.leftovers, done.arrivals) == ((), 1)
    assert made_by(db) == {"1.1.1": None, "1.1.7": None, "1.2.1": None}


def test_a_result_that_is_older_than_the_records_are_kept_is_kept(db: Database) -> None:
    old = result("1.1", "7", NOW - timedelta(days=91))
    done = again(db, [received("1.1", "1"), old], [])
    assert done.leftovers == ()
    assert set(made_by(db)) == {"1.1.1", "1.1.7"}


def test_a_result_in_a_study_of_its_own_is_left_over_while_any_job_comes(db: Database) -> None:
    derived = result("1.9", "7")
    assert again(db, [derived], []).leftovers == ()
    assert again(db, [derived, received("1.1", "1")], []).leftovers == (derived.path,)


def test_what_was_received_is_no_result(db: Database) -> None:
    by_hand = stored(header("1.1", "7"), SOON, "")  # somebody put it there
    assert again(db, [received("1.1", "1"), by_hand], []).leftovers == ()
    assert set(made_by(db)) == {"1.1.1", "1.1.7"}


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_result_of_a_job_that_had_not_ended_at_the_backup_is_left_over(
    db: Database, state: str
) -> None:
    again(db, [received("1.1", "1", "GONE")], [])
    queue(db, "MONTAGE", "1.1", "1.1.1")
    with db.write() as connection:
        connection.execute(sa.update(t.jobs).values(state=state))
    left = result("1.1", "7")
    done = rebuild.catch_up(db, told([left], []), NOW, LATER)
    assert (done.instances, done.leftovers) == (0, (left.path,))
    assert made_by(db) == {"1.1.1": None}


def test_a_job_that_had_failed_at_the_backup_and_was_retried_since_has_its_results(
    db: Database, empty: Database
) -> None:
    files, [record] = fill(db)
    failed = {"state": "failed", "ended_at": NOW.isoformat(), "result_count": 0, "results": []}
    again(empty, files[:2], [record | failed])
    since = record | {"ended_at": LATER.isoformat(), "result_count": 1, "attempt": 2}
    own = replace(files[2], is_result=True)
    done = rebuild.catch_up(empty, told([own], [since]), NOW + timedelta(seconds=1), LATER)
    assert (done.jobs, done.leftovers, made_by(empty)["1.1.7"]) == (1, (), 1)
    with empty.read() as connection:
        job = jobs.get(connection, 1)
        assert (job.state, job.result_count) == ("succeeded", 1)
        assert len(catalog.results_of(connection, 1)) == 1
    assert [one.kind for one in ends(empty)] == ["job failed", "job succeeded"]


def test_of_a_replaced_content_the_older_names_are_told(db: Database) -> None:
    older = received("1.1", "1")
    newer = replace(older, path="studies/1.1.1.v2.dcm", older=(older.path,))
    for files in ([older, newer], [newer, older], [newer]):
        done = again(db, files, [])
        assert (done.instances, done.older) == (1, (older.path,))


# -- the ends of jobs --------------------------------------------------------------------------


def test_the_audit_trail_tells_of_each_end_that_a_record_told(
    db: Database, empty: Database
) -> None:
    files, [record] = fill(db)
    other_end = {
        "id": 2, "state": "cancelled", "reason": "It was cancelled by anna.",
        "cancelled_by": "anna", "result_count": 0, "ended_at": LATER.isoformat(),
    }  # fmt: skip
    with db.write() as connection:
        jobs.tell_end(connection, 1, "h/1", NOW)
    [before] = ends(db)
    again(empty, files, [record | {"worker": "h/1"}, record | other_end])
    told_of, other = ends(empty)
    added = " This was taken from the job's record."
    assert replace(told_of, id=0) == replace(before, id=0, sentence=before.sentence + added)
    assert (other.kind, other.who, other.at) == ("job cancelled", "anna", LATER)
    assert other.sentence.startswith("Job 2 of MONTAGE cancelled with 0 results: It was cancelled")


def test_an_end_that_the_restored_index_knows_is_not_told_twice(db: Database) -> None:
    files, records = fill(db)
    for _ in range(2):
        rebuild.catch_up(db, told(files, records), NOW, LATER)
    assert ends(db) == []
    rebuild.catch_up(db, told([], [records[0] | {"id": 5}]), NOW, LATER)
    assert [one.job_id for one in ends(db)] == [5]


def test_the_ends_of_many_jobs_are_told_in_few_statements(
    empty: Database, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, [record] = fill(db)
    statements: list[int] = []
    real = events.append_all

    def counted(connection: sa.Connection, rows: Any) -> None:
        statements.append(len(rows))
        real(connection, rows)

    monkeypatch.setattr(job_records.events, "append_all", counted)
    many: Iterable[dict[str, Any]] = (record | {"id": n, "inputs": []} for n in range(1, 2502))
    rebuild.rebuild(empty, Told([], many, 0, {}.get, NOW), None, LATER)
    assert statements == [1000, 1000, 501]
    assert len(ends(empty)) == 2501
