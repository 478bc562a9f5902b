"""Ended jobs become deliveries once, on either engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.dicom.header import Header
from appliance.index import attempts, catalog, deliveries, job_list, jobs
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.index.jobs import NewJob
from appliance.router.routes import plan, route_ended_jobs
from appliance.router.routing_watch import InForce
from appliance.router.rules import Destination, Routing, Rule

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE = timedelta(60)
ROUTING = Routing({"p": Destination("p", "P", "192.0.2.1", 104, "B")}, (Rule("all", ("p",)),))


def ended(db: Database, *results: str, outcome: str = "success") -> int:
    new = NewJob(
        ae_title="ECHO", study_uid="1.2", series_uid="", priority=0, calling_ae_title="CT1",
        address="192.0.2.9", input_digest="d", inputs=(), result_seed="s", incomplete=False,
        first_instance_at=NOW, last_instance_at=NOW,
    )  # fmt: skip
    with db.write() as connection:
        job_id = jobs.create(connection, new, NOW)
        for uid in results:
            header = Header("1.2.840.10008.5.1.4.1.1.2", uid, "1.2", "1.2.1", "1.2.840.10008.1.2.1")
            catalog.add_instance(
                connection, header, path=uid, size_bytes=1, dataset_sha256="", now=NOW,
                made_by_job=job_id,
            )  # fmt: skip
    job = attempts.claim_next(db, "ECHO", lanes=9, worker="h/1/1.0", lease=LEASE, now=NOW)
    assert job is not None
    with db.write() as connection:
        attempts.finish(connection, job, Finish(outcome), NOW)
    return job_id


def route(db: Database, routing: Routing = ROUTING, *, is_known: bool = True) -> int:
    return route_ended_jobs(db, Path("/none"), InForce(routing, is_known=is_known), NOW)


def test_a_job_is_routed_once(db: Database) -> None:
    job_id = ended(db, "1.3.1", "1.3.2")
    assert (route(db), route(db)) == (1, 0)
    with db.read() as connection:
        [made] = deliveries.deliveries_of(connection, job_id)
        told = deliveries.instances_of(connection, made.id)
        job = jobs.get(connection, job_id)
    assert [one.sop_instance_uid for one in told] == ["1.3.1", "1.3.2"]
    assert job.routing_note == "To be delivered: 2 output to p (rule all)."


def test_nothing_is_routed_while_the_rules_are_not_known(db: Database) -> None:
    ended(db, "1.3.1")
    assert route(db, is_known=False) == 0
    with db.read() as connection:
        assert len(job_list.unrouted_jobs(connection)) == 1


def test_a_plan_changes_nothing(db: Database) -> None:
    job_id = ended(db, "1.3.1")
    with db.read() as connection:
        job = jobs.get(connection, job_id)
    assert plan(db, Path("/none"), ROUTING, job).matches[0].instances == ("1.3.1",)
    with db.read() as connection:
        assert deliveries.deliveries_of(connection, job_id) == []


def test_the_next_due_delivery_is_told_without_the_busy_destinations(db: Database) -> None:
    ended(db, "1.3.1")
    route(db)
    assert deliveries.next_due_at(db) == NOW
    assert deliveries.next_due_at(db, {"p"}) is None


def test_a_delivery_that_has_ended_falls_due_when_it_is_extended(db: Database) -> None:
    job_id = ended(db, "1.3.1")
    route(db)
    sent = deliveries.claim_due(db, busy=(), router="h/1/1.0", lease=LEASE, now=NOW)
    assert sent is not None
    deliveries.note_instances(db, sent, [deliveries.Sent("1.3.1", "sent", 0, "", NOW)])
    deliveries.delivered(db, sent, "", NOW)
    facts = {"job_id": job_id, "destination": "p", "what": "output", "now": NOW}
    with db.write() as connection:
        same = deliveries.extend(connection, instances=["1.3.1"], **facts)  # type: ignore[arg-type]
    assert (same, deliveries.next_due_at(db)) == (0, None)
    with db.write() as connection:
        more = deliveries.extend(  # type: ignore[arg-type]
            connection, instances=["1.3.1", "1.3.2"], **facts
        )
    assert (more, deliveries.next_due_at(db)) == (1, NOW)
