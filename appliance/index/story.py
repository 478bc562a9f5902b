"""What the index knows of one study or one AE title, for `brookbox why`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.events import Event

_TRIES = "q%"  # how disk.quarantine names a try: an association's own name is hexadecimal
_CLOSINGS = 500


@dataclass(frozen=True, slots=True)
class Came:
    """How instances of a study came: for whom, from whom, how many, until when."""

    called_ae_title: str
    calling_ae_title: str
    address: str
    instances: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Arrived:
    """One arrival of a study; `note` is a sentence when no job was made of it."""

    id: int
    called_ae_title: str
    state: str
    last_instance_at: datetime
    closed_at: datetime | None
    reason: str
    incomplete: bool
    note: str
    job_id: int | None


@dataclass(frozen=True, slots=True)
class Associated:
    """One association; `ending` is None while it is open."""

    id: str
    called_ae_title: str
    calling_ae_title: str
    address: str
    opened_at: datetime
    ending: str | None
    instances: int
    failures: int


@dataclass(frozen=True, slots=True)
class Called:
    """Whom a sender called, and when it did so last."""

    called_ae_title: str
    last_at: datetime


def receptions_of(connection: sa.Connection, study_uid: str) -> list[Came]:
    """Group what came of a study by receiver and sender, the last one standing last."""
    r = t.receptions.c
    last = sa.func.max(r.received_at)
    query = (
        sa.select(
            r.called_ae_title,
            r.calling_ae_title,
            r.address,
            sa.func.count(r.sop_instance_uid.distinct()),
            last,
        )
        .where(r.study_uid == study_uid)
        .group_by(r.called_ae_title, r.calling_ae_title, r.address)
        .order_by(last)
    )
    return [Came(*row) for row in connection.execute(query)]


def arrivals_of(connection: sa.Connection, study_uid: str) -> list[Arrived]:
    """List the arrivals of a study, oldest first."""
    a = t.arrivals.c
    query = (
        sa.select(*(a[name] for name in Arrived.__slots__))
        .where(a.study_uid == study_uid)
        .order_by(a.id)
    )
    return [Arrived(*row) for row in connection.execute(query)]


def associations_of(connection: sa.Connection, ae_title: str, limit: int) -> list[Associated]:
    """List the last associations that call an AE title, or that it called; newest first.

    What a person had tried again came over none, though its arrival needs one.
    """
    a = t.associations.c
    query = (
        sa.select(*(a[name] for name in Associated.__slots__))
        .where(sa.or_(a.called_ae_title == ae_title, a.calling_ae_title == ae_title))
        .where(a.id.not_like(_TRIES))
        .order_by(a.opened_at.desc())
        .limit(limit)
    )
    return [Associated(*row) for row in connection.execute(query)]


def conflicts_over(connection: sa.Connection, ids: Sequence[str]) -> dict[str, int]:
    """Count, by association, the instances that came with other content than what is kept."""
    r = t.receptions.c
    query = (
        sa.select(r.association_id, sa.func.count(r.sop_instance_uid.distinct()))
        .where(r.association_id.in_(ids), r.is_conflict)
        .group_by(r.association_id)
    )
    return dict(connection.execute(query).all())


def closings_since(
    connection: sa.Connection, callers: Collection[str], at: datetime
) -> list[Event]:
    """List how the associations of these callers ended since then, newest first."""
    e = t.events.c
    query = sa.select(t.events).where(
        e.kind == "association closed", e.who.in_(list(callers)), e.at >= at
    )
    rows = connection.execute(query.order_by(e.id.desc()).limit(_CLOSINGS)).mappings()
    return [Event(**row) for row in rows]


def called_by(connection: sa.Connection, calling_ae_title: str) -> list[Called]:
    """List whom an AE title called, the last one standing last; nothing when it never called.

    One that was refused does not count.
    """
    a, r = t.associations.c, t.receptions.c
    # An index that was made again from the files has receptions without an association.
    for table, at, id in ((a, a.opened_at, a.id), (r, r.received_at, r.association_id)):
        query = (
            sa.select(table.called_ae_title, sa.func.max(at))
            .where(table.calling_ae_title == calling_ae_title, id.not_like(_TRIES))
            .group_by(table.called_ae_title)
            .order_by(sa.func.max(at))
        )
        if found := [Called(*row) for row in connection.execute(query)]:
            return found
    return []


def was_refused(connection: sa.Connection, calling_ae_title: str) -> bool:
    """Say whether the node ever refused an association of this sender."""
    e = t.events.c
    refused = sa.select(e.id).where(e.kind == "association refused", e.who == calling_ae_title)
    return connection.execute(refused.limit(1)).first() is not None


def events_about(connection: sa.Connection, ae_title: str, limit: int) -> list[Event]:
    """List the last events that an AE title did, or that name it; newest first."""
    e = t.events.c
    # Facts are JSON: a value stands there between quotes.
    named = e.facts.contains(f'"{ae_title}"', autoescape=True)
    query = sa.select(t.events).where(sa.or_(e.who == ae_title, named))
    # SQLite compares without case there: what names another AE title is left out again.
    rows = connection.execute(query.order_by(e.id.desc()).limit(10 * limit)).mappings()
    found = [Event(**row) for row in rows]
    return [one for one in found if one.who == ae_title or f'"{ae_title}"' in one.facts][:limit]
