"""The read side of arrivals: what is still coming in, and why nothing came of what did."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from appliance.index import schema as t


@dataclass(frozen=True, slots=True)
class ArrivalRow:
    """One arrival as a list shows it; `instances` came for it, and `calling_ae_titles` sent them.

    `job_id` is the job that it became, or the one that it was found identical to;
    `note` is a sentence when no job was made.
    """

    id: int
    called_ae_title: str
    study_uid: str
    series_uid: str
    state: str
    opened_at: datetime
    last_instance_at: datetime
    closed_at: datetime | None
    reason: str
    incomplete: bool
    note: str
    job_id: int | None
    instances: int
    calling_ae_titles: tuple[str, ...]


def get(connection: sa.Connection, arrival_id: int) -> ArrivalRow | None:
    """Look an arrival up; None when there is none."""
    return next(iter(_rows(connection, t.arrivals.c.id == arrival_id, limit=1)), None)


def still_open(connection: sa.Connection, limit: int = 200) -> list[ArrivalRow]:
    """List what is still coming in, newest first."""
    return _rows(connection, t.arrivals.c.state == "open", limit=limit)


def closed(connection: sa.Connection, limit: int, before: int = 0) -> list[ArrivalRow]:
    """List what has come in, newest first; `before` is the id that the last page ended with."""
    a = t.arrivals.c
    return _rows(connection, a.state == "closed", *([a.id < before] if before else []), limit=limit)


def matching(
    connection: sa.Connection,
    limit: int,
    states: Collection[str] = (),
    called_ae_title: str = "",
    study_uid: str = "",
) -> list[ArrivalRow]:
    """List arrivals in these states (none named: in all), open ones first, newest first."""
    a = t.arrivals.c
    where: list[Any] = [a.state.in_(list(states))] if states else []
    if called_ae_title:
        where.append(a.called_ae_title == called_ae_title)
    if study_uid:
        where.append(a.study_uid == study_uid)
    return _rows(connection, *where, limit=limit, first=a.state == "open")


def without_job(connection: sa.Connection, since: datetime, limit: int = 50) -> list[ArrivalRow]:
    """List what came in and was closed since then without a job being made, newest first."""
    a = t.arrivals.c
    return _rows(connection, a.state == "closed", a.closed_at >= since, a.note != "", limit=limit)


def of_job(connection: sa.Connection, job_id: int) -> ArrivalRow | None:
    """Find the arrival that became this job; None for a job that a person asked for."""
    a = t.arrivals.c
    return next(iter(_rows(connection, a.job_id == job_id, a.note == "", limit=1)), None)


def conflicts_of(connection: sa.Connection, arrival_id: int) -> int:
    """Count the instances that came for an arrival with other content than what is kept."""
    r = t.receptions.c
    query = sa.select(sa.func.count(r.sop_instance_uid.distinct()))
    return connection.scalar(query.where(r.arrival_id == arrival_id, r.is_conflict)) or 0


def _rows(
    connection: sa.Connection, *where: Any, limit: int, first: Any = None
) -> list[ArrivalRow]:
    """List arrivals, newest first; before them those of which `first` holds."""
    a = t.arrivals.c
    names = [name for name in ArrivalRow.__slots__ if name in t.arrivals.c]
    order = [a.id.desc()] if first is None else [sa.case((first, 0), else_=1), a.id.desc()]
    query = sa.select(*(a[name] for name in names)).where(*where).order_by(*order).limit(limit)
    found = [dict(row) for row in connection.execute(query).mappings()]
    ids = [row["id"] for row in found]
    counts, senders = _counts(connection, ids), _senders(connection, ids)
    return [
        ArrivalRow(
            **row,
            instances=counts.get(row["id"], 0),
            calling_ae_titles=tuple(sorted(senders.get(row["id"], ()))),
        )
        for row in found
    ]


def _counts(connection: sa.Connection, arrival_ids: Collection[int]) -> dict[int, int]:
    r = t.receptions.c
    query = (
        sa.select(r.arrival_id, sa.func.count(r.sop_instance_uid.distinct()))
        .where(r.arrival_id.in_(list(arrival_ids)))
        .group_by(r.arrival_id)
    )
    return dict(connection.execute(query).all())


def _senders(connection: sa.Connection, arrival_ids: Collection[int]) -> dict[int, set[str]]:
    link, association = t.arrival_associations, t.associations
    query = (
        sa.select(link.c.arrival_id, association.c.calling_ae_title)
        .join(association, association.c.id == link.c.association_id)
        .where(link.c.arrival_id.in_(list(arrival_ids)))
        .distinct()
    )
    senders: dict[int, set[str]] = {}
    for arrival_id, calling_ae_title in connection.execute(query):
        senders.setdefault(arrival_id, set()).add(calling_ae_title)
    return senders
