"""The node's own numbers, every five minutes, of the last week.

Written and removed by the housekeeper; the page Health, the API and `brookbox status
--week` show them.  What came and went is counted since the sample before.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.index import job_list
from appliance.index import schema as t
from appliance.index.database import Database, insert_new
from appliance.index.states import ENDED, DeliveryState

COUNTS = (
    "instances_received", "bytes_received",
    *(f"jobs_{state}" for state in ENDED),
    "deliveries_sent", "deliveries_failed",
)  # fmt: skip
LEVELS = ("wait_seconds", "studies_waiting", "disk_used_bytes", "disk_free_bytes")
NAMES = (*COUNTS, *LEVELS)


@dataclass(frozen=True, slots=True)
class Sample:
    """One number at one moment."""

    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Since:
    """Where the sample before ended: what is newer belongs to the next one."""

    at: datetime
    last_reception: int


def start(connection: sa.Connection, now: datetime) -> Since:
    """Begin to count now."""
    return Since(now, _last_reception(connection))


def count(connection: sa.Connection, since: Since, now: datetime) -> tuple[dict[str, float], Since]:
    """Count what came and went since the sample before; give it, and where the next begins.

    The median wait of the jobs that ended is left out when none did.
    """
    until = Since(now, _last_reception(connection))
    numbers = _received(connection, since, until) | _ended(connection, since.at, now)
    numbers |= _delivered(connection, since.at, now)
    waiting = job_list.waiting_by_stream(connection)
    return numbers | {"studies_waiting": float(sum(waiting.values()))}, until


def add(db: Database, numbers: Mapping[str, float], now: datetime) -> None:
    """Keep the numbers of one moment."""
    with db.write() as connection:
        for name, value in numbers.items():
            insert_new(connection, t.samples, {"name": name, "at": now, "value": value})


def forget(db: Database, before: datetime) -> int:
    """Remove what is older; how many there were."""
    with db.write() as connection:
        gone = sa.delete(t.samples).where(t.samples.c.at < before)
        return connection.execute(gone).rowcount


def series(connection: sa.Connection, name: str, since: datetime) -> list[Sample]:
    """List the samples of one number, oldest first."""
    s = t.samples.c
    query = sa.select(s.at, s.value).where(s.name == name, s.at >= since).order_by(s.at)
    return [Sample(at, value) for at, value in connection.execute(query)]


def _last_reception(connection: sa.Connection) -> int:
    return connection.scalar(sa.select(sa.func.max(t.receptions.c.id))) or 0


def _received(connection: sa.Connection, since: Since, until: Since) -> dict[str, float]:
    """Count by the receptions' ids, which go up: their times have no index."""
    r, i = t.receptions.c, t.instances.c
    query = (
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(i.size_bytes), 0))
        .select_from(t.receptions.join(t.instances, i.sop_instance_uid == r.sop_instance_uid))
        .where(r.id > since.last_reception, r.id <= until.last_reception)
    )
    instances, size = connection.execute(query).one()
    return {"instances_received": float(instances), "bytes_received": float(size)}


def _ended(connection: sa.Connection, since: datetime, now: datetime) -> dict[str, float]:
    j = t.jobs.c
    query = sa.select(j.state, j.created_at, j.started_at).where(
        j.ended_at > since, j.ended_at <= now, j.state.in_(ENDED)
    )
    found = connection.execute(query).all()
    numbers = {f"jobs_{state}": float(sum(one == state for one, *_ in found)) for state in ENDED}
    waits = [(began - created).total_seconds() for _, created, began in found if began]
    return numbers | ({"wait_seconds": max(statistics.median(waits), 0.0)} if waits else {})


def _delivered(connection: sa.Connection, since: datetime, now: datetime) -> dict[str, float]:
    """Count what was sent and given up; what a newer job superseded is missed by nobody."""
    d, j = t.deliveries.c, t.jobs.c
    query = (
        sa.select(d.state, sa.func.count())
        .join(t.jobs, j.id == d.job_id)
        .where(d.ended_at > since, d.ended_at <= now)
        .where(sa.or_(d.state == DeliveryState.DELIVERED, j.superseded_by.is_(None)))
        .group_by(d.state)
    )
    found = {str(state): float(count) for state, count in connection.execute(query)}
    return {
        "deliveries_sent": found.get(DeliveryState.DELIVERED, 0.0),
        "deliveries_failed": found.get(DeliveryState.GAVE_UP, 0.0),
    }
