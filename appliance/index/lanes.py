"""Lanes: which workers serve which stream now, and why one does not; and switched-off streams.

A worker writes all its lanes at each beat; lanes of a worker that is silent for
long do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import Database, insert_new


@dataclass(frozen=True, slots=True)
class Lane:
    """A stream's seat in a worker; `why_not` is a sentence when it is not open.

    `is_confined` says that what runs there sees nothing of the node's data.
    """

    id: str
    worker: str
    ae_title: str
    is_open: bool
    why_not: str
    remedy: str
    executor: str
    job_id: int | None
    last_beat_at: datetime
    is_confined: bool = False


def beat(db: Database, worker: str, lanes: Sequence[Lane]) -> None:
    """Replace what this worker says of its lanes."""
    with db.write() as connection:
        connection.execute(sa.delete(t.lanes).where(t.lanes.c.worker == worker))
        if lanes:
            connection.execute(
                sa.insert(t.lanes),
                [{f.name: getattr(lane, f.name) for f in fields(Lane)} for lane in lanes],
            )


def remove_workers(db: Database, workers: Sequence[str]) -> None:
    """Take the lanes of these workers away: they stopped, or died."""
    with db.write() as connection:
        connection.execute(sa.delete(t.lanes).where(t.lanes.c.worker.in_(workers)))


def lanes_since(connection: sa.Connection, since: datetime) -> list[Lane]:
    """List the lanes that had a beat since then, by stream."""
    query = (
        sa.select(t.lanes)
        .where(t.lanes.c.last_beat_at >= since)
        .order_by(t.lanes.c.ae_title, t.lanes.c.id)
    )
    return [Lane(**row) for row in connection.execute(query).mappings()]


def workers(connection: sa.Connection) -> set[str]:
    """Name every worker that has lanes."""
    return set(connection.scalars(sa.select(t.lanes.c.worker).distinct()))


def switch_off(db: Database, ae_title: str, who: str, now: datetime) -> None:
    """Let a stream take no more studies; what waits for it waits on."""
    with db.write() as connection:
        insert_new(connection, t.switches, {"ae_title": ae_title, "who": who, "at": now})


def switch_on(db: Database, ae_title: str) -> None:
    """Let a stream work again."""
    with db.write() as connection:
        connection.execute(sa.delete(t.switches).where(t.switches.c.ae_title == ae_title))


def switched_off(connection: sa.Connection) -> set[str]:
    """Name the streams that a person switched off."""
    return set(connection.scalars(sa.select(t.switches.c.ae_title)))
