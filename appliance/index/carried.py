"""What only the index that is replaced knows of sending, and its place in the new one.

It is read before (`read_sends`) and written into the index that was put back or made again
(`carry_over`): which ended jobs the router had looked at, and the deliveries with what had
become of each instance.  A delivery goes on where it was; what was sent twice for that, a
destination takes as the same instance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.states import ENDED, DeliveryState

_OPEN = (DeliveryState.DUE, DeliveryState.SENDING)
_PORTION = 500
_WENT_ON = "The index was replaced in the middle; it goes on."
_ROUTED_BEFORE = (
    "It was routed before the index was made again; what was not sent then is sent now."
)


@dataclass(frozen=True, slots=True)
class EndedJob:
    """An ended job of the index before; the first four fields tell that it is the same one."""

    id: int
    created_at: datetime
    result_seed: str
    attempt: int
    routed_at: datetime | None
    is_held: bool
    routing_note: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A delivery of the index before: its columns and those of its instances, without its id."""

    delivery: dict[str, Any]
    instances: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Sends:
    """What the index before knew of sending."""

    jobs: tuple[EndedJob, ...] = ()
    deliveries: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True)
class Carried:
    """How many deliveries are due that were not sent; `jobs` are those that have a known past."""

    due: int = 0
    jobs: frozenset[int] = frozenset()


def read_sends(connection: sa.Connection, since: datetime | None) -> Sends:
    """Read what an index knows of sending that one of `since` does not; None is of any time.

    Of any time, only what is not sent yet is read whole: the rest may be years.
    """
    d = t.deliveries.c
    news: sa.ColumnElement[bool] = d.state.in_(_OPEN)
    if since is not None:
        news = sa.or_(news, d.ended_at >= since)
    return Sends(_jobs(connection, since, news), _deliveries(connection, news))


def carry_over(connection: sa.Connection, before: Sends, now: datetime) -> Carried:
    """Let the ended jobs that both know be routed, held and delivered as they were before."""
    known: set[int] = set()
    for start in range(0, len(before.jobs), _PORTION):
        known |= _carry_jobs(connection, before.jobs[start : start + _PORTION])
    due = 0
    for kept in before.deliveries:
        if kept.delivery["job_id"] in known:
            _carry_delivery(connection, kept, now)
            due += kept.delivery["state"] in _OPEN
    return Carried(due, frozenset(known))


def _jobs(
    connection: sa.Connection, since: datetime | None, news: sa.ColumnElement[bool]
) -> tuple[EndedJob, ...]:
    c = t.jobs.c
    note = sa.case((c.routed_at.is_(None), ""), else_=_ROUTED_BEFORE)
    query = sa.select(
        c.id, c.created_at, c.result_seed, c.attempt, c.routed_at, c.is_held,
        note if since is None else c.routing_note,
    ).where(c.state.in_(ENDED))  # fmt: skip
    if since is not None:
        moved = sa.select(t.deliveries.c.job_id).where(news)
        late = sa.or_(c.ended_at >= since, c.routed_at >= since, c.routed_at.is_(None))
        query = query.where(sa.or_(late, c.id.in_(moved)))
    return tuple(EndedJob(*row) for row in connection.execute(query))


def _deliveries(connection: sa.Connection, news: sa.ColumnElement[bool]) -> tuple[Kept, ...]:
    d, i = t.deliveries.c, t.delivery_instances.c
    instances: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    wanted = sa.select(d.id).where(news)
    query = sa.select(i.delivery_id, i.sop_instance_uid, i.state, i.status, i.message, i.at)
    for delivery_id, *rest in connection.execute(query.where(i.delivery_id.in_(wanted))):
        instances[delivery_id].append(tuple(rest))
    rows = connection.execute(sa.select(t.deliveries).where(news).order_by(d.id)).mappings()
    return tuple(
        Kept(
            {name: value for name, value in row.items() if name != "id"},
            tuple(instances.pop(row["id"], ())),
        )
        for row in rows
    )


def _carry_jobs(connection: sa.Connection, some: Sequence[EndedJob]) -> set[int]:
    """Give the numbers of those that are the same job, ended by the same attempt, here."""
    c = t.jobs.c
    by_id = {job.id: job for job in some}
    query = sa.select(c.id, c.created_at, c.result_seed, c.attempt).where(
        c.id.in_(by_id), c.state.in_(ENDED)
    )
    same = [by_id[row.id] for row in connection.execute(query) if _is_same(by_id[row.id], row)]
    if same:
        names = ("routed_at", "is_held", "routing_note")
        connection.execute(
            sa.update(t.jobs)
            .where(c.id == sa.bindparam("of"))
            .values({name: sa.bindparam(f"new_{name}") for name in names}),
            [{"of": job.id, **{f"new_{n}": getattr(job, n) for n in names}} for job in same],
        )
    return {job.id for job in same}


def _is_same(before: EndedJob, found: Any) -> bool:
    """Not so by its number alone: an index that was begun anew gave it to another job."""
    names = ("created_at", "result_seed", "attempt")
    return all(getattr(before, name) == getattr(found, name) for name in names)


def _carry_delivery(connection: sa.Connection, kept: Kept, now: datetime) -> None:
    d, i = t.deliveries.c, t.delivery_instances.c
    values = dict(kept.delivery)
    if values["state"] == DeliveryState.SENDING:
        values |= {"state": DeliveryState.DUE, "due_at": now, "lease_until": None}
        values |= {"router": "", "message": _WENT_ON}
    key = [d[name] == values[name] for name in ("job_id", "destination", "what")]
    older = i.delivery_id.in_(sa.select(d.id).where(*key))
    connection.execute(sa.delete(t.delivery_instances).where(older))
    found = connection.scalar(sa.update(t.deliveries).where(*key).values(**values).returning(d.id))
    if found is None:
        found = connection.scalar(sa.insert(t.deliveries).values(**values).returning(d.id))
    names = ("sop_instance_uid", "state", "status", "message", "at")
    for start in range(0, len(kept.instances), 1000):
        some = kept.instances[start : start + 1000]
        rows = [{"delivery_id": found, **dict(zip(names, one, strict=True))} for one in some]
        connection.execute(sa.insert(t.delivery_instances), rows)
