"""What the index knows of things that go wrong: the facts that alerts are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.states import DeliveryState, JobState


@dataclass(frozen=True, slots=True)
class Down:
    """A destination that has taken nothing since then, and how many deliveries wait for it."""

    destination: str
    since: datetime
    deliveries: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The study that has waited longest for a stream, and why, as far as that is known.

    `job_id` is None for one that is still arriving.
    """

    ae_title: str
    since: datetime
    job_id: int | None
    why: str


def failed_in_a_row(connection: sa.Connection, since: datetime) -> dict[str, int]:
    """Count the jobs of each stream that failed since its last good one, at most since then."""
    j = t.jobs.c
    good = (
        sa.select(j.ae_title, sa.func.max(j.ended_at).label("at"))
        .where(j.state.in_([JobState.SUCCEEDED, JobState.PARTIAL]), j.ended_at >= since)
        .group_by(j.ae_title)
        .subquery()
    )
    query = (
        sa.select(j.ae_title, sa.func.count())
        .select_from(t.jobs.outerjoin(good, good.c.ae_title == j.ae_title))
        .where(j.state == JobState.FAILED, j.ended_at >= since)
        .where(sa.or_(good.c.at.is_(None), j.ended_at > good.c.at))
        .group_by(j.ae_title)
    )
    return dict(connection.execute(query).all())


def destinations_down(connection: sa.Connection) -> list[Down]:
    """List the destinations to which something was tried in vain, and nothing went since."""
    d = t.deliveries.c
    # One that is being sent for the second time has failed before.
    tried = sa.or_(
        sa.and_(d.state == DeliveryState.DUE, d.attempt > 0, d.message != ""),
        sa.and_(d.state == DeliveryState.SENDING, d.attempt > 1),
    )
    waiting = connection.execute(
        sa.select(d.destination, sa.func.min(d.created_at), sa.func.count())
        .where(tried)
        .group_by(d.destination)
    ).all()
    last = _last_success(connection, [name for name, *_ in waiting])
    return [
        Down(name, max(since, last.get(name, since)), deliveries)
        for name, since, deliveries in waiting
    ]


def given_up(connection: sa.Connection, since: datetime) -> dict[str, int]:
    """Count the deliveries that were given up since then, by destination.

    What a newer job superseded is not missed by anybody.
    """
    d, j = t.deliveries.c, t.jobs.c
    query = (
        sa.select(d.destination, sa.func.count())
        .join(t.jobs, j.id == d.job_id)
        .where(d.state == DeliveryState.GAVE_UP, d.ended_at >= since, j.superseded_by.is_(None))
        .group_by(d.destination)
    )
    return dict(connection.execute(query).all())


def waiting_longest(connection: sa.Connection, before: datetime) -> list[Waiting]:
    """List, for each stream, what has waited longest, of what began to wait before then."""
    return _longest([*_queued(connection, before), *_arriving(connection, before)])


def hindered_longest(connection: sa.Connection, before: datetime) -> list[Waiting]:
    """List, for each stream of which nothing can run, the job that has waited longest.

    One that was tried, and pauses or was put back since then, waits for its turn.
    """
    j = t.jobs.c
    is_tried = sa.or_(j.started_at > before, j.not_before > before)
    tried = set(connection.scalars(sa.select(j.id).where(j.state == JobState.QUEUED, is_tried)))
    queued = _queued(connection, before)
    return _longest([one for one in queued if one.why and one.job_id not in tried])


def first_entry_at(connection: sa.Connection) -> datetime | None:
    """Say when the first event was, before which the index knows nothing; None without any."""
    return connection.scalar(sa.select(t.events.c.at).order_by(t.events.c.id).limit(1))


def _longest(found: Sequence[Waiting]) -> list[Waiting]:
    longest: dict[str, Waiting] = {}
    for one in found:
        if one.ae_title not in longest or one.since < longest[one.ae_title].since:
            longest[one.ae_title] = one
    return sorted(longest.values(), key=lambda one: one.ae_title)


def _last_success(connection: sa.Connection, names: Sequence[str]) -> dict[str, datetime]:
    d = t.deliveries.c
    query = (
        sa.select(d.destination, sa.func.max(d.ended_at))
        .where(d.state == DeliveryState.DELIVERED, d.destination.in_(names))
        .group_by(d.destination)
    )
    return dict(connection.execute(query).all())


def _queued(connection: sa.Connection, before: datetime) -> list[Waiting]:
    """List the jobs that nothing has happened to since then: a person's retry is an event."""
    j, e = t.jobs.c, t.events.c
    last = sa.select(sa.func.max(e.at)).where(e.job_id == j.id).scalar_subquery()
    query = sa.select(j.ae_title, j.created_at, last, j.id, j.wait_reason).where(
        j.state == JobState.QUEUED, j.created_at <= before
    )
    return [
        Waiting(title, max(created, event or created), job_id, why)
        for title, created, event, job_id, why in connection.execute(query)
        if max(created, event or created) <= before
    ]


def _arriving(connection: sa.Connection, before: datetime) -> list[Waiting]:
    a = t.arrivals.c
    query = sa.select(a.called_ae_title, a.opened_at).where(
        a.state == "open", a.opened_at <= before
    )
    return [Waiting(title, since, None, "") for title, since in connection.execute(query)]
