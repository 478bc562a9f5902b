"""The moves of a delivery: due → sending → delivered | due again later | gave_up.

create, claim_due, note_instance, delivered, retry_at, give_up: router;
resend: web, cli.  Each instance of a delivery keeps its own status.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from appliance.errors import DeliveryError, NotFound
from appliance.index import schema as t
from appliance.index.catalog import Instance
from appliance.index.database import Database, insert_new
from appliance.index.states import DeliveryState


@dataclass(frozen=True, slots=True)
class Delivery:
    """One job's results (or inputs) to one destination."""

    id: int
    job_id: int
    destination: str
    what: str
    rule: str
    state: str
    created_at: datetime
    due_at: datetime
    attempt: int
    router: str
    lease_until: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Sent:
    """One instance of a delivery; `status` is that of its last C-STORE response."""

    sop_instance_uid: str
    state: str  # waiting | sent | warning | failed
    status: int | None
    message: str
    at: datetime | None


def get(connection: sa.Connection, delivery_id: int, *, to_move: bool = False) -> Delivery:
    """Look a delivery up, `to_move` so that nobody else does; NotFound when there is none."""
    query = sa.select(t.deliveries).where(t.deliveries.c.id == delivery_id)
    row = connection.execute(query.with_for_update() if to_move else query).first()
    if row is None:
        raise NotFound(f"there is no delivery {delivery_id}", remedy="brookbox deliveries list")
    return _delivery(row)


def create(
    connection: sa.Connection,
    *,
    job_id: int,
    destination: str,
    what: str,
    rule: str,
    instances: Sequence[str],
    now: datetime,
) -> int | None:
    """Make a delivery due now; None when this job has one to this destination already."""
    values = {
        "job_id": job_id,
        "destination": destination,
        "what": what,
        "rule": rule,
        "state": DeliveryState.DUE,
        "created_at": now,
        "due_at": now,
        "attempt": 0,
        "router": "",
        "message": "",
        "remedy": "",
    }
    if not insert_new(connection, t.deliveries, values):
        return None
    d = t.deliveries.c
    delivery_id: int = connection.execute(
        sa.select(d.id).where(d.job_id == job_id, d.destination == destination, d.what == what)
    ).scalar_one()
    for start in range(0, len(instances), 1000):
        connection.execute(
            sa.insert(t.delivery_instances),
            [
                {"delivery_id": delivery_id, "sop_instance_uid": uid, "state": "waiting"}
                for uid in instances[start : start + 1000]
            ],
        )
    return delivery_id


def extend(
    connection: sa.Connection,
    *,
    job_id: int,
    destination: str,
    what: str,
    instances: Sequence[str],
    now: datetime,
) -> int:
    """Add instances to the delivery that a job has already; it falls due if it had ended.

    So the results of a job that was tried again follow those of its failed attempt.
    Gives how many instances were new.
    """
    d = t.deliveries.c
    key = (d.job_id == job_id, d.destination == destination, d.what == what)
    delivery_id: int = connection.execute(sa.select(d.id).where(*key)).scalar_one()
    added = sum(
        insert_new(
            connection,
            t.delivery_instances,
            {"delivery_id": delivery_id, "sop_instance_uid": uid, "state": "waiting"},
        )
        for uid in instances
    )
    ended = [DeliveryState.DELIVERED, DeliveryState.GAVE_UP]
    if added:
        connection.execute(
            sa.update(t.deliveries)
            .where(d.id == delivery_id, d.state.in_(ended))
            .values(state=DeliveryState.DUE, due_at=now, created_at=now, ended_at=None)
        )
    return added


def mark_routed(connection: sa.Connection, job_id: int, note: str, now: datetime) -> bool:
    """Note that the router has looked at a job; False when it had, or a person holds it now."""
    c = t.jobs.c
    result = connection.execute(
        sa.update(t.jobs)
        .where(c.id == job_id, c.routed_at.is_(None), c.is_held.is_(False))
        .values(routed_at=now, routing_note=note)
    )
    return result.rowcount == 1


def claim_due(
    db: Database, *, busy: Collection[str], router: str, lease: timedelta, now: datetime
) -> Delivery | None:
    """Move the next due delivery to sending; destinations in `busy` are passed over."""
    d = t.deliveries.c
    query = sa.select(d.id).where(d.state == DeliveryState.DUE, d.due_at <= now)
    if busy:
        query = query.where(d.destination.not_in(list(busy)))
    with db.write() as connection:
        db.lock(connection, "claim delivery")
        first = query.order_by(d.due_at, d.id).limit(1).with_for_update(skip_locked=True)
        delivery_id = connection.scalar(first)
        if delivery_id is None:
            return None
        connection.execute(
            sa.update(t.deliveries)
            .where(d.id == delivery_id)
            .values(
                state=DeliveryState.SENDING,
                router=router,
                lease_until=now + lease,
                started_at=now,
                attempt=d.attempt + 1,
            )
        )
        return get(connection, delivery_id)


def next_due_at(db: Database, busy: Collection[str] = ()) -> datetime | None:
    """Say when the next delivery falls due, not counting destinations in `busy`; None is never."""
    d = t.deliveries.c
    query = sa.select(d.due_at).where(d.state == DeliveryState.DUE).order_by(d.due_at).limit(1)
    if busy:
        query = query.where(d.destination.not_in(list(busy)))
    with db.read() as connection:
        return connection.scalar(query)


def renew(db: Database, delivery: Delivery, lease: timedelta, now: datetime) -> bool:
    """Keep the lease of a delivery that is being sent; False when it is ours no more."""
    with db.write() as connection:
        result = connection.execute(
            sa.update(t.deliveries).where(*_current(delivery)).values(lease_until=now + lease)
        )
        return result.rowcount == 1


def to_send(connection: sa.Connection, delivery_id: int) -> list[Instance]:
    """List what is still to be sent: neither sent nor sent with a warning."""
    query = (
        sa.select(t.instances)
        .join(
            t.delivery_instances,
            t.delivery_instances.c.sop_instance_uid == t.instances.c.sop_instance_uid,
        )
        .where(
            t.delivery_instances.c.delivery_id == delivery_id,
            t.delivery_instances.c.state.in_(["waiting", "failed"]),
        )
        .order_by(t.instances.c.sop_instance_uid)
    )
    return [Instance(**row) for row in connection.execute(query).mappings()]


def note_instances(db: Database, delivery: Delivery, sent: Sequence[Sent]) -> None:
    """Keep the statuses of instances; nothing happens when the delivery is ours no more."""
    d = t.delivery_instances.c
    with db.write() as connection:
        still = sa.select(t.deliveries.c.id).where(*_current(delivery))
        if connection.scalar(still) is None:
            return
        for one in sent:
            connection.execute(
                sa.update(t.delivery_instances)
                .where(d.delivery_id == delivery.id, d.sop_instance_uid == one.sop_instance_uid)
                .values(state=one.state, status=one.status, message=one.message, at=one.at)
            )


def delivered(db: Database, delivery: Delivery, message: str, now: datetime) -> bool:
    """Move a delivery that was being sent to delivered; False when it is ours no more."""
    return _end(db, delivery, DeliveryState.DELIVERED, message, "", now)


def give_up(db: Database, delivery: Delivery, message: str, remedy: str, now: datetime) -> bool:
    """Move a delivery that was being sent to gave_up; False when it is ours no more."""
    return _end(db, delivery, DeliveryState.GAVE_UP, message, remedy, now)


def retry_at(db: Database, delivery: Delivery, due_at: datetime, message: str, remedy: str) -> bool:
    """Make a delivery due again later; False when it is ours no more."""
    with db.write() as connection:
        result = connection.execute(
            sa.update(t.deliveries)
            .where(*_current(delivery))
            .values(
                state=DeliveryState.DUE,
                due_at=due_at,
                message=message,
                remedy=remedy,
                lease_until=None,
                router="",
            )
        )
        return result.rowcount == 1


def take_back(db: Database, now: datetime, dead_routers: Collection[str] = ()) -> int:
    """Make due again what a dead router was sending; how many there were."""
    d = t.deliveries.c
    gone = sa.or_(d.lease_until < now, d.router.in_(list(dead_routers)))
    with db.write() as connection:
        result = connection.execute(
            sa.update(t.deliveries)
            .where(d.state == DeliveryState.SENDING, gone)
            .values(
                state=DeliveryState.DUE,
                due_at=now,
                lease_until=None,
                router="",
                message="The router stopped in the middle; it goes on.",
            )
        )
        return result.rowcount


def sending_routers(db: Database) -> set[str]:
    """Name the processes that are sending now."""
    d = t.deliveries.c
    query = sa.select(d.router).where(d.state == DeliveryState.SENDING).distinct()
    with db.read() as connection:
        return set(connection.scalars(query))


def stop_superseded(connection: sa.Connection, now: datetime) -> int:
    """Give up what is due of jobs that a newer job has superseded; how many there were."""
    d = t.deliveries.c
    older = sa.select(t.jobs.c.id).where(t.jobs.c.superseded_by.is_not(None))
    result = connection.execute(
        sa.update(t.deliveries)
        .where(d.state == DeliveryState.DUE, d.job_id.in_(older))
        .values(
            state=DeliveryState.GAVE_UP,
            ended_at=now,
            message="Its job was superseded by a newer one, whose results are sent instead.",
        )
    )
    return result.rowcount


def resend(db: Database, delivery_id: int, now: datetime, *, all_instances: bool = False) -> None:
    """Make a delivery due now; only what failed, or all of it.

    One that waits for its next try is sent now.  Raises DeliveryError when it is being
    sent already or has nothing that failed, NotFound when unknown.
    """
    with db.write() as connection:
        delivery = get(connection, delivery_id, to_move=True)
        if delivery.state == DeliveryState.SENDING:
            raise DeliveryError(
                f"delivery {delivery_id} is being sent just now",
                remedy=f"brookbox deliveries show {delivery_id}",
            )
        if delivery.state == DeliveryState.DELIVERED and not all_instances:
            raise DeliveryError(
                f"all of delivery {delivery_id} was sent",
                remedy=f"to send all of it again: brookbox deliveries resend --all {delivery_id}",
            )
        states = ["failed", "sent", "warning"] if all_instances else ["failed"]
        d = t.delivery_instances.c
        connection.execute(
            sa.update(t.delivery_instances)
            .where(d.delivery_id == delivery_id, d.state.in_(states))
            .values(state="waiting")
        )
        said = "A person asked to send it again."
        values = {"due_at": now, "created_at": now, "ended_at": None, "message": said, "remedy": ""}
        connection.execute(
            sa.update(t.deliveries)
            .where(t.deliveries.c.id == delivery_id)
            .values(state=DeliveryState.DUE, **values)
        )


def deliveries_of(connection: sa.Connection, job_id: int) -> list[Delivery]:
    """List a job's deliveries, oldest first."""
    d = t.deliveries
    rows = connection.execute(sa.select(d).where(d.c.job_id == job_id).order_by(d.c.id))
    return [_delivery(row) for row in rows]


def deliveries_in(
    connection: sa.Connection, states: Collection[str], limit: int, destination: str = ""
) -> list[Delivery]:
    """List deliveries in these states (none named: in all), newest first."""
    d = t.deliveries
    query = sa.select(d)
    if states:
        query = query.where(d.c.state.in_(list(states)))
    if destination:
        query = query.where(d.c.destination == destination)
    return [
        _delivery(row) for row in connection.execute(query.order_by(d.c.id.desc()).limit(limit))
    ]


def instances_of(connection: sa.Connection, delivery_id: int) -> list[Sent]:
    """List what becomes of each instance of a delivery."""
    d = t.delivery_instances.c
    query = (
        sa.select(d.sop_instance_uid, d.state, d.status, d.message, d.at)
        .where(d.delivery_id == delivery_id)
        .order_by(d.sop_instance_uid)
    )
    return [Sent(*row) for row in connection.execute(query)]


def _delivery(row: Any) -> Delivery:
    return Delivery(**{field.name: row._mapping[field.name] for field in fields(Delivery)})


def _current(delivery: Delivery) -> tuple[Any, ...]:
    d = t.deliveries.c
    return (
        d.id == delivery.id,
        d.attempt == delivery.attempt,
        d.state == DeliveryState.SENDING,
    )


def _end(
    db: Database, delivery: Delivery, state: DeliveryState, message: str, remedy: str, now: datetime
) -> bool:
    with db.write() as connection:
        result = connection.execute(
            sa.update(t.deliveries)
            .where(*_current(delivery))
            .values(
                state=state,
                ended_at=now,
                message=message,
                remedy=remedy,
                lease_until=None,
                router="",
            )
        )
        return result.rowcount == 1
