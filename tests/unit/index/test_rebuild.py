"""The index is made again from files, or brought up to them after a restore, on both engines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from appliance.dicom.header import Header
from appliance.errors import IndexUnavailable
from appliance.index import (
    arrivals,
    catalog,
    deliveries,
    former,
    job_numbers,
    jobs,
    rebuild,
    story,
)
from appliance.index import schema as t
from appliance.index.arrivals import OpenArrival, Reception
from appliance.index.database import Database
from appliance.index.former import Former
from appliance.index.jobs import NewJob
from appliance.index.rebuild import Rebuilt, StoredFile, Told
from appliance.index.states import Ending

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def header(study: str, name: str) -> Header:
    return Header(
        "1.2.3", f"{study}.{name}", study, f"{study}.9", "1.2.840.10008.1.2.1",
        patient_name="Seeded^Name", study_description="Head", instance_number=name,
    )  # fmt: skip


def stored(one: Header, at: datetime, called: str) -> StoredFile:
    return StoredFile(
        one, f"studies/{one.sop_instance_uid}.dcm", 100, "0" * 64, at,
        called, "CT1" if called else "", "10.0.0.1" if called else "",
    )  # fmt: skip


def fill(db: Database) -> tuple[list[StoredFile], list[dict[str, Any]]]:
    """Fill an index as the node does; give what its files would tell."""
    files = [stored(header("1.1", str(n)), NOW + timedelta(seconds=n), "MONTAGE") for n in (1, 2)]
    files.append(stored(header("1.1", "7"), NOW + timedelta(seconds=9), ""))
    with db.write() as connection:
        new = NewJob(
            ae_title="MONTAGE", study_uid="1.1", series_uid="", priority=0,
            calling_ae_title="CT1", address="10.0.0.1", input_digest="d",
            inputs=("1.1.1", "1.1.2"), result_seed="s", incomplete=False,
            first_instance_at=NOW, last_instance_at=NOW,
        )  # fmt: skip
        job_id = jobs.create(connection, new, NOW)
        connection.execute(sa.update(t.jobs).values(state="succeeded", ended_at=NOW, routed_at=NOW))
        for one in files:
            made_by = None if one.called_ae_title else job_id
            catalog.add_instance(
                connection, one.header, path=one.path, size_bytes=one.size_bytes,
                dataset_sha256=one.dataset_sha256, now=one.written_at, made_by_job=made_by,
            )  # fmt: skip
            if made_by is None:
                came = Reception(
                    one.header.sop_instance_uid, "1.1", "1.1.9", "MONTAGE", "CT1", "10.0.0.1",
                    "a", one.written_at,
                )  # fmt: skip
                arrivals.receive(connection, came, None)
        job = jobs.get(connection, job_id)
    record: dict[str, Any] = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(job).items()
    }
    record["inputs"], record["results"] = ["1.1.1", "1.1.2"], ["1.1.7"]
    step = {"attempt": 1, "name": "run", "started_at": NOW.isoformat(), "ended_at": None}
    record["steps"] = [{**step, "detail": ""}]
    return files, [record]


def told(files: Iterable[StoredFile], records: Iterable[dict[str, Any]], highest: int = 0) -> Told:
    """Give what the files tell to a node that has the stream MONTAGE, and no other."""
    levels = {"MONTAGE": "study"}
    return Told(files, records, highest, levels.get, NOW - timedelta(days=90))


def again(
    db: Database,
    files: Iterable[StoredFile],
    records: Iterable[dict[str, Any]],
    highest: int = 0,
    before: Former | None = None,
) -> Rebuilt:
    return rebuild.rebuild(db, told(files, records, highest), before, LATER, "a person")


def still_open(db: Database) -> list[OpenArrival]:
    return arrivals.open_arrivals(db, LATER)


def queue(db: Database, ae_title: str, study: str, *uids: str, again_of: int | None = None) -> int:
    new = NewJob(
        ae_title=ae_title, study_uid=study, series_uid="", priority=0, calling_ae_title="",
        address="", input_digest="", inputs=uids, result_seed="", incomplete=False,
        first_instance_at=NOW, last_instance_at=NOW, run_again_of=again_of,
    )  # fmt: skip
    with db.write() as connection:
        return jobs.create(connection, new, NOW)


def contents(db: Database) -> dict[str, list[Any]]:
    """Give what a rebuilt index must have alike."""
    receptions = sa.select(
        t.receptions.c.sop_instance_uid, t.receptions.c.called_ae_title,
        t.receptions.c.calling_ae_title, t.receptions.c.address, t.receptions.c.received_at,
    )  # fmt: skip
    tables = (t.studies, t.series, t.instances, t.jobs, t.job_inputs)
    with db.read() as connection:
        found = {table.name: sorted(connection.execute(sa.select(table)).all()) for table in tables}
        found["receptions"] = sorted(connection.execute(receptions).all())
    return {name: [tuple(row) for row in rows] for name, rows in found.items()}


def test_the_files_give_the_same_index_again(db: Database, empty: Database) -> None:
    files, records = fill(db)
    done = again(empty, files, records, 1)
    assert (done.studies, done.instances, done.receptions, done.jobs) == (1, 3, 2, 1)
    assert contents(empty) == contents(db)


def test_job_ids_go_on_above_the_highest_folder(db: Database) -> None:
    done = again(db, [], [], 41)
    assert done.next_job_id == 42
    assert queue(db, "A", "1") == 42


def test_a_rebuilt_job_is_not_sent_again(db: Database, empty: Database) -> None:
    _, [record] = fill(db)
    record |= {"routed_at": None, "is_held": True, "state": "partial"}
    again(empty, [], [record], 1)
    with empty.read() as connection:
        job = jobs.get(connection, 1)
    assert job.routed_at is not None and not job.is_held and "not known" in job.routing_note


def test_a_rebuilt_job_says_who_cancelled_it(db: Database, empty: Database) -> None:
    _, [record] = fill(db)
    record |= {"state": "cancelled", "cancelled_by": "anna"}
    again(empty, [], [record], 1)
    with empty.read() as connection:
        assert jobs.get(connection, 1).cancelled_by == "anna"


def test_the_record_of_a_job_that_had_not_ended_is_left_out(db: Database) -> None:
    assert again(db, [], [{"id": 3, "state": "running"}], 3).jobs == 0


def test_what_an_index_held_gives_way_to_what_the_files_tell(db: Database) -> None:
    files, records = fill(db)
    for _ in range(2):
        done = again(db, files, records, 1)
        assert (done.instances, done.jobs) == (len(files), len(records))
    assert again(db, [], [], 0).instances == 0


# -- what waited -------------------------------------------------------------------------------


def test_a_study_without_ended_job_arrives_anew_as_possibly_incomplete(db: Database) -> None:
    files = [stored(header("1.1", str(n)), NOW + timedelta(seconds=n), "MONTAGE") for n in (1, 2)]
    assert again(db, files, []).arrivals == 1
    [arrival] = still_open(db)
    assert (arrival.called_ae_title, arrival.study_uid) == ("MONTAGE", "1.1")
    times = (arrival.opened_at, arrival.last_instance_at)
    assert times == (files[0].written_at, files[1].written_at)
    assert arrival.endings == {Ending.UNKNOWN} and arrival.open_associations == 0
    with db.read() as connection:
        [one] = story.associations_of(connection, "MONTAGE", 10)
    assert (one.calling_ae_title, one.instances, one.opened_at) == ("CT1", 2, times[0])


def test_a_late_instance_whose_job_had_not_ended_brings_the_whole_study_again(
    db: Database, empty: Database
) -> None:
    files, records = fill(db)
    late = stored(header("1.1", "3"), NOW + timedelta(seconds=30), "MONTAGE")
    assert again(empty, [*files, late], records, 1).arrivals == 1
    [arrival] = still_open(empty)
    assert arrival.last_instance_at == late.written_at
    with empty.read() as connection:
        received = arrivals.received_for(connection, "MONTAGE", "1.1")
    assert [one.sop_instance_uid for one in received] == ["1.1.1", "1.1.2", "1.1.3"]


def test_what_a_job_passed_over_does_not_arrive_anew(db: Database, empty: Database) -> None:
    files, records = fill(db)
    localizer = stored(header("1.1", "4"), NOW - timedelta(seconds=1), "MONTAGE")
    assert again(empty, [*files, localizer], records, 1).arrivals == 0


@pytest.mark.parametrize("called", ["", "BROOKBOX", "GONE"])
def test_what_no_stream_was_meant_for_does_not_arrive(db: Database, called: str) -> None:
    assert again(db, [stored(header("1.1", "1"), NOW, called)], []).arrivals == 0


def test_what_is_older_than_the_records_are_kept_does_not_arrive_anew(db: Database) -> None:
    old = stored(header("1.1", "1"), NOW - timedelta(days=91), "MONTAGE")
    assert again(db, [old], []).arrivals == 0


def test_a_job_that_was_cancelled_while_it_waited_does_not_come_back(
    db: Database, empty: Database
) -> None:
    job = queue(db, "MONTAGE", "1.1", "1.1.1")
    jobs.cancel(db, job, "a person", NOW)
    one = stored(header("1.1", "1"), NOW - timedelta(seconds=1), "MONTAGE")
    before = former.read_former(db)
    done = again(empty, [one], [], 0, before)
    assert done.arrivals == 0 and done.next_job_id == job + 1


def test_each_job_that_waited_is_told_what_became_of_it(db: Database, empty: Database) -> None:
    files, records = fill(db)
    waits = queue(db, "MONTAGE", "1.2", "1.2.1")
    second = queue(db, "ECHO", "1.2", "1.2.1")
    by_hand = queue(db, "MONTAGE", "1.1", "1.1.1", again_of=1)
    orphan = queue(db, "MONTAGE", "1.1", "1.1.1", again_of=by_hand)
    with db.write() as connection:
        connection.execute(sa.update(t.jobs).where(t.jobs.c.id == 1).values(state="queued"))
    records[0]["state"] = "failed"
    before = former.read_former(db)
    files.append(stored(header("1.2", "1"), NOW, "MONTAGE"))
    assert again(empty, files, records, 1, before).next_job_id == orphan + 1
    said = {fate.job.id: (fate.sentence, fate.remedy) for fate in former.fates(empty, before)}
    assert said == {
        1: ("Job 1 (MONTAGE, queued) is back as it had ended before: failed.",
            "brookbox jobs retry 1"),
        waits: (f"Job {waits} (MONTAGE, queued): a new job is made of its study.", ""),
        second: (f"Job {second} (ECHO, queued) does not come back.",
                 "send the study to ECHO again"),
        by_hand: (f"Job {by_hand} (MONTAGE, queued) was to run job 1 again and does not come back.",
                  "brookbox jobs run-again 1"),
        orphan: (f"Job {orphan} (MONTAGE, queued) was to run job {by_hand} again and does not "
                 "come back.", "send the study to MONTAGE again"),
    }  # fmt: skip


def test_jobs_whose_results_were_not_all_sent_are_named(db: Database) -> None:
    fill(db)
    assert former.read_former(db).unsent == ()
    with db.write() as connection:
        deliveries.create(
            connection, job_id=1, destination="pacs", what="output", rule="", instances=["1.1.7"],
            now=NOW,
        )  # fmt: skip
    assert former.read_former(db).unsent == (1,)


def test_an_index_of_another_schema_is_not_read(db: Database) -> None:
    with db.write() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME COLUMN run_again_of TO something")
    with pytest.raises(IndexUnavailable):
        former.read_former(db)


# -- after a restore ---------------------------------------------------------------------------


def test_what_came_after_the_backup_is_taken_in(db: Database) -> None:
    _, _ = fill(db)
    late = stored(header("1.3", "1"), LATER, "MONTAGE")
    done = rebuild.catch_up(db, told([late], [], 7), NOW, LATER)
    assert (done.instances, done.jobs, done.arrivals) == (1, 0, 1)
    assert [arrival.study_uid for arrival in still_open(db)] == ["1.3"]
    assert queue(db, "MONTAGE", "1.4") == 8


def test_a_job_that_waited_at_the_backup_and_ended_since_is_not_run_again(
    db: Database, empty: Database
) -> None:
    files, [record] = fill(db)
    again(empty, files[:2], [record], 1)
    with empty.write() as connection:
        ended = {"state": "queued", "ended_at": None, "routed_at": None}
        connection.execute(sa.update(t.jobs).values(**ended))
    record["ended_at"] = LATER.isoformat()
    done = rebuild.catch_up(empty, told(files[2:], [record], 1), NOW, LATER)
    assert (done.instances, done.jobs, done.arrivals) == (1, 1, 0)
    with empty.read() as connection:
        job = jobs.get(connection, 1)
        made = catalog.results_of(connection, 1)
    assert job.state == "succeeded" and job.routed_at is not None
    assert [one.sop_instance_uid for one in made] == ["1.1.7"]


def test_a_job_that_was_queued_again_before_the_backup_stays_queued(
    db: Database, empty: Database
) -> None:
    files, [record] = fill(db)
    again(empty, files, [record], 1)
    with empty.write() as connection:
        connection.execute(sa.update(t.jobs).values(state="queued", ended_at=None))
    assert rebuild.catch_up(empty, told([], [record], 1), LATER, LATER).jobs == 0
    with empty.read() as connection:
        assert jobs.get(connection, 1).state == "queued"


def test_a_number_that_was_given_is_not_given_again(db: Database) -> None:
    first = queue(db, "A", "1")
    with db.write() as connection:
        connection.execute(sa.delete(t.jobs))
        assert job_numbers.last_given(connection) == first
        assert job_numbers.go_on_above(connection, 0) == first + 1
    assert queue(db, "A", "1") == first + 1
