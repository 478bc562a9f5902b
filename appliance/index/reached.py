"""Where a study that is erased may be still: who sent it, and whom it was sent to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.extent import Extent, portions
from appliance.index.states import DeliveryState


@dataclass(frozen=True, slots=True)
class Received:
    """A destination and how many instances it took; `perhaps` it took so many more.

    Those belong to a delivery that is being sent just now, and is broken off.
    """

    destination: str
    instances: int
    perhaps: int


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent instances of it, and how many."""

    calling_ae_title: str
    address: str
    instances: int


def destinations(connection: sa.Connection, gone: Extent) -> list[Received]:
    """List the destinations that have something of it, by name."""
    took: dict[str, set[str]] = {}
    perhaps: dict[str, set[str]] = {}
    for row in _sent(connection, [*gone.jobs, *gone.makers]):
        if row.job_id in gone.makers and row.sop_instance_uid not in gone.uids:
            continue
        if row.state in ("sent", "warning"):
            took.setdefault(row.destination, set()).add(row.sop_instance_uid)
        elif row.whole == DeliveryState.SENDING:
            perhaps.setdefault(row.destination, set()).add(row.sop_instance_uid)
    names = sorted({*took, *perhaps})
    none: set[str] = set()
    return [
        Received(
            name, len(took.get(name, none)), len(perhaps.get(name, none) - took.get(name, none))
        )
        for name in names
    ]


def senders(connection: sa.Connection, gone: Extent) -> list[Sender]:
    """List who sent it, by name."""
    r = t.receptions.c
    counts: dict[tuple[str, str], int] = {}
    for some in portions(gone.study_uids):
        query = (
            sa.select(r.calling_ae_title, r.address, sa.func.count(r.sop_instance_uid.distinct()))
            .where(r.study_uid.in_(some))
            .group_by(r.calling_ae_title, r.address)
        )
        for name, address, count in connection.execute(query):
            counts[name, address] = counts.get((name, address), 0) + count
    return [Sender(*who, count) for who, count in sorted(counts.items())]


def jobs_of_nobody(connection: sa.Connection) -> int:
    """Count the jobs of studies of which nothing is kept: nobody knows whose they were."""
    j = t.jobs.c
    kept = sa.select(t.studies.c.study_uid).where(t.studies.c.study_uid == j.study_uid)
    query = sa.select(sa.func.count()).select_from(t.jobs).where(~kept.exists())
    return connection.scalar(query) or 0


def _sent(connection: sa.Connection, jobs: Sequence[int]) -> list[sa.Row]:  # type: ignore[type-arg]
    d, i = t.deliveries.c, t.delivery_instances.c
    found: list[sa.Row] = []  # type: ignore[type-arg]
    for some in portions(jobs):
        query = (
            sa.select(d.job_id, d.destination, d.state.label("whole"), i.sop_instance_uid, i.state)
            .join_from(t.deliveries, t.delivery_instances, d.id == i.delivery_id)
            .where(d.job_id.in_(some))
        )
        found += connection.execute(query)
    return found
