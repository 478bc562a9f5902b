"""What was still to be sent outlives a restore and a rebuild, on both engines."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from appliance.errors import JobError, NotFound
from appliance.index import (
    deliveries,
    events,
    former,
    job_list,
    jobs,
    rebuild,
    unknown_sends,
)
from appliance.index import schema as t
from appliance.index.carried import Sends
from appliance.index.database import Database
from appliance.index.deliveries import Delivery
from appliance.index.rebuild import CaughtUp
from tests.unit.index.test_rebuild import again, queue, told

NOW = datetime.fromisoformat("2026-03-01T00:00:00+00:00")
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def back(empty: Database) -> Database:
    """The index of the backup, once it is put back."""
    return empty


def ended(db: Database, study: str, *, routed: bool = True, **values: object) -> int:
    """Make a job that ended after the backup, and was routed then."""
    job_id = queue(db, "MONTAGE", study, f"{study}.1")
    facts: dict[str, object] = {"state": "succeeded", "ended_at": LATER, "result_count": 1}
    facts["result_seed"] = f"s{job_id}"
    if routed:
        facts |= {"routed_at": LATER, "routing_note": "To be delivered."}
    with db.write() as connection:
        connection.execute(sa.update(t.jobs).where(t.jobs.c.id == job_id).values(facts | values))
    return job_id


def delivery(db: Database, job_id: int, state: str = "due", **values: object) -> int:
    with db.write() as connection:
        made = deliveries.create(
            connection, job_id=job_id, destination="pacs", what="output", rule="all",
            instances=[f"{job_id}.7", f"{job_id}.8"], now=NOW,
        )  # fmt: skip
        assert made is not None
        connection.execute(
            sa.update(t.deliveries).where(t.deliveries.c.id == made).values(state=state, **values)
        )
        connection.execute(
            sa.update(t.delivery_instances)
            .where(t.delivery_instances.c.sop_instance_uid == f"{job_id}.7")
            .values(state="sent", status=0, at=NOW)
        )
    return made


def records(db: Database) -> list[dict[str, Any]]:
    """Give the records of all ended jobs, as they were just after their ends."""
    with db.read() as connection:
        found = job_list.jobs_matching(connection, job_list.Filter(), 100)
    at_end = [
        replace(job, routed_at=None, routing_note="", superseded_by=None)
        for job in found
        if job.ended_at
    ]
    return [
        {name: v.isoformat() if isinstance(v, datetime) else v for name, v in asdict(job).items()}
        for job in at_end
    ]


def restored(db: Database, back: Database) -> CaughtUp:
    """Bring `back` up to what the files tell, and to what the index before knew of sending."""
    sends = former.read_sends_since(db, NOW)
    return rebuild.catch_up(back, told([], records(db)), NOW, LATER, "a person", sends)


def sent(db: Database) -> dict[int, Delivery]:
    with db.read() as connection:
        return {one.job_id: one for one in deliveries.deliveries_in(connection, (), 100)}


def job(db: Database, job_id: int) -> jobs.Job:
    with db.read() as connection:
        return jobs.get(connection, job_id)


def test_a_delivery_that_was_due_or_being_sent_is_due_again(db: Database, back: Database) -> None:
    due, sending = ended(db, "1.1"), ended(db, "1.2")
    delivery(db, due, attempt=3, message="The PACS is down.", due_at=LATER)
    delivery(db, sending, "sending", attempt=1, router="h/1", lease_until=LATER)
    assert restored(db, back).due == 2
    found = sent(back)
    assert replace(found[due], id=0) == replace(sent(db)[due], id=0)
    assert (found[sending].state, found[sending].router) == ("due", "")
    assert found[sending].lease_until is None
    with back.read() as connection:
        states = [one.state for one in deliveries.instances_of(connection, found[due].id)]
    assert states == ["sent", "waiting"]
    assert job(back, due).routing_note == "To be delivered."


@pytest.mark.parametrize("state", ["delivered", "gave_up"])
def test_what_had_ended_since_the_backup_is_not_sent_again(
    db: Database, back: Database, state: str
) -> None:
    for one in (db, back):
        delivery(one, ended(one, "1.1"))
    with db.write() as connection:
        connection.execute(sa.update(t.deliveries).values(state=state, ended_at=LATER))
    assert restored(db, back).due == 0
    assert sent(back)[1].state == state


def test_a_job_that_was_not_routed_yet_is_routed_by_the_rules_of_today(
    db: Database, back: Database
) -> None:
    new, held = ended(db, "1.1", routed=False), ended(db, "1.2", routed=False, is_held=True)
    assert restored(db, back).unknown_sends == ()
    with back.read() as connection:
        assert [one.id for one in job_list.unrouted_jobs(connection)] == [new]
    assert job(back, held).is_held


def test_a_job_of_the_backup_is_superseded_by_one_that_came_after(
    db: Database, back: Database
) -> None:
    for one in (db, back):
        delivery(one, ended(one, "1.1", is_held=True))
    newer, newest = ended(db, "1.1"), ended(db, "1.1")
    with db.write() as connection:  # what the former index holds is not needed for that
        connection.execute(sa.delete(t.deliveries))
    for sends in (None, former.read_sends_since(db, NOW)):
        rebuild.catch_up(back, told([], records(db)), NOW, LATER, "", sends)
        assert [job(back, n).superseded_by for n in (1, newer, newest)] == [newer, newest, None]
        assert not job(back, 1).is_held
        with back.write() as connection:
            deliveries.stop_superseded(connection, LATER)
        assert sent(back)[1].state == "gave_up"


def test_a_job_that_waited_at_the_backup_and_was_superseded_since_is_cancelled(
    db: Database, back: Database
) -> None:
    older = queue(back, "MONTAGE", "1.1")
    assert queue(db, "MONTAGE", "1.1") == older
    newer = ended(db, "1.1")
    restored(db, back)
    found = job(back, older)
    assert (found.state, found.superseded_by) == ("cancelled", newer)
    with back.read() as connection:
        assert events.latest(connection, 9, kind="job cancelled", job_id=older)


def test_a_job_that_was_run_again_supersedes_none(db: Database, back: Database) -> None:
    first = ended(db, "1.1")
    ended(db, "1.1", run_again_of=first)
    with db.write() as connection:
        connection.execute(sa.update(t.jobs).values(superseded_by=None))
    restored(db, back)
    assert job(back, first).superseded_by is None


def test_another_job_with_the_same_number_is_not_taken_for_it(db: Database, back: Database) -> None:
    delivery(db, ended(db, "1.1"))
    told_of = [one | {"result_seed": "another"} for one in records(db)]
    sends = former.read_sends_since(db, NOW)
    done = rebuild.catch_up(back, told([], told_of), NOW, LATER, "", sends)
    assert (done.due, done.unknown_sends, sent(back)) == (0, (1,), {})


# -- nobody knows ------------------------------------------------------------------------------


def lost(db: Database, back: Database) -> CaughtUp:
    return rebuild.catch_up(back, told([], records(db)), NOW, LATER, "a person", None)


def test_of_what_nobody_knows_the_restore_tells(db: Database, back: Database) -> None:
    ended(db, "1.1")
    newer, _empty = ended(db, "1.1"), ended(db, "1.2", result_count=0)
    assert lost(db, back).unknown_sends == (newer,)
    with back.read() as connection:
        [event] = events.latest(connection, 1, kind="backup restored")
        assert unknown_sends.unknown_jobs(connection, LATER + timedelta(seconds=1)) == []
    assert f"{unknown_sends.COMMAND} --unknown" in event.sentence
    assert f"[{newer}]" in event.facts
    assert f"{unknown_sends.COMMAND} {newer}" in job(back, newer).routing_note


def test_what_nobody_knows_is_routed_again_when_a_person_wants_it(
    db: Database, back: Database
) -> None:
    one = ended(db, "1.1")
    lost(db, back)
    unknown_sends.route_again(back, [one], "anna", LATER)
    with back.read() as connection:
        assert [job.id for job in job_list.unrouted_jobs(connection)] == [one]
        assert unknown_sends.unknown_jobs(connection) == []
        assert events.latest(connection, 1)[0].kind == "job routed again"


def test_what_has_nothing_to_be_sent_is_not_routed_again(db: Database) -> None:
    good, older = ended(db, "1.2"), ended(db, "1.1")
    newer = ended(db, "1.1", state="cancelled")
    for bad, kind in ((older, JobError), (newer, JobError), (99, NotFound)):
        with pytest.raises(kind):
            unknown_sends.route_again(db, [good, bad], "anna", LATER)
        assert job(db, good).routed_at is not None


# -- a rebuild ---------------------------------------------------------------------------------


def test_a_rebuild_sends_what_was_not_sent_and_nothing_else(db: Database, back: Database) -> None:
    waits, done, unrouted = ended(db, "1.1"), ended(db, "1.2"), ended(db, "1.3", routed=False)
    delivery(db, waits)
    delivery(db, done, "delivered", ended_at=LATER)
    gone = ended(db, "1.4")
    delivery(db, gone)
    told_of = [one for one in records(db) if one["id"] != gone]
    made = again(back, [], told_of, gone, former.read_former(db))
    assert (made.due, made.unknown_sends, made.unsent) == (1, (), (gone,))
    assert {one.job_id: one.state for one in sent(back).values()} == {waits: "due"}
    with back.read() as connection:
        assert [job.id for job in job_list.unrouted_jobs(connection)] == [unrouted]
    assert "routed before" in job(back, done).routing_note


def test_of_a_rebuild_without_the_former_index_nobody_knows(db: Database, back: Database) -> None:
    one = ended(db, "1.1")
    assert again(back, [], records(db)).unknown_sends == (one,)


def test_an_empty_index_knows_of_no_sends(db: Database) -> None:
    assert former.read_sends_since(db, NOW) == Sends()
