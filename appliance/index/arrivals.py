"""Studies that are still coming in: associations, arrivals and receptions.

Touched by intake, closed by the dispatcher; associations are the receiver's.
An arrival is one (called AE title, study), or one series for streams of level
series; at most one of each is open.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.bulk import IGNORE, Insert, time_cell
from appliance.index.catalog import Instance
from appliance.index.database import Database, insert_new
from appliance.index.reception import Reception, touch
from appliance.index.states import Ending


@dataclass(frozen=True, slots=True)
class Association:
    """An association that brings instances; `process` is the receiver's ids.ProcessName."""

    id: str
    called_ae_title: str
    calling_ae_title: str
    address: str
    process: str
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class AssociationEnd:
    """How an association ended, and how many instances were answered well and ill over it."""

    id: str
    ending: str
    at: datetime
    instances: int
    failures: int


@dataclass(frozen=True, slots=True)
class Bringer:
    """An association that brought instances for an arrival; `ending` is None while it is open."""

    calling_ae_title: str
    opened_at: datetime
    last_activity_at: datetime
    closed_at: datetime | None
    ending: str | None


@dataclass(frozen=True, slots=True)
class OpenArrival:
    """An arrival as the dispatcher judges it.

    `open_associations` counts those that are open and were active since the
    moment that the caller named; `endings` are those of the closed ones.
    """

    id: int
    called_ae_title: str
    study_uid: str
    series_uid: str
    opened_at: datetime
    last_instance_at: datetime
    open_associations: int
    endings: frozenset[str]
    calling_ae_titles: frozenset[str]
    associations: tuple[Bringer, ...] = ()


@dataclass(frozen=True, slots=True)
class ClosedArrival:
    """The last closed arrival of a study, for the dispatcher to learn from."""

    closed_at: datetime
    incomplete: bool
    digest: str
    calling_ae_titles: frozenset[str]


def open_association(db: Database, association: Association) -> None:
    """Note that an association was accepted."""
    with db.write() as connection:
        open_associations(connection, [association])


def open_associations(connection: sa.Connection, opened: Sequence[Association]) -> None:
    """Note that associations were accepted; those that are noted already stay as they are."""
    rows = []
    for one in opened:
        at = time_cell(one.opened_at)
        titles = one.called_ae_title, one.calling_ae_title
        rows.append((one.id, *titles, one.address, one.process, at, at))
    _OPEN.run(connection, rows)


def count_open_associations(db: Database) -> int:
    """Count the associations that are open on the whole node."""
    query = sa.select(sa.func.count()).where(t.associations.c.closed_at.is_(None))
    with db.read() as connection:
        return connection.scalar(query) or 0


def beat_associations(db: Database, ids: Sequence[str], now: datetime) -> None:
    """Note that bytes came over these associations."""
    with db.write() as connection:
        connection.execute(
            sa.update(t.associations)
            .where(t.associations.c.id.in_(ids), t.associations.c.last_activity_at < now)
            .values(last_activity_at=now)
        )


def close_association(
    db: Database, id: str, ending: Ending, now: datetime, *, instances: int, failures: int
) -> None:
    """Note how an association ended; the first ending stays."""
    with db.write() as connection:
        note_ends(connection, [AssociationEnd(id, ending, now, instances, failures)])


def note_ends(connection: sa.Connection, ends: Sequence[AssociationEnd]) -> None:
    """Do as `close_association` does for many, in a transaction of the caller's."""
    rows = [
        {"of": e.id, "at": e.at, "as": e.ending, "kept": e.instances, "failed": e.failures}
        for e in ends
    ]
    if rows:
        connection.execute(_CLOSE, rows)


def receiving_processes(db: Database) -> set[str]:
    """Name the processes that have associations open."""
    query = sa.select(t.associations.c.process).where(t.associations.c.closed_at.is_(None))
    with db.read() as connection:
        return set(connection.scalars(query.distinct()))


def close_associations_of(db: Database, processes: Collection[str], now: datetime) -> int:
    """Close the associations of processes that died, with that as their end; how many."""
    a = t.associations.c
    kept = sa.select(sa.func.count()).where(t.receptions.c.association_id == a.id)
    with db.write() as connection:
        result = connection.execute(
            sa.update(t.associations)
            .where(a.process.in_(processes), a.closed_at.is_(None))
            .values(closed_at=now, ending=Ending.PROCESS_DIED, instances=kept.scalar_subquery())
        )
        return result.rowcount


def receive(connection: sa.Connection, reception: Reception, level: str | None) -> int | None:
    """Record a reception and touch its arrival; intake calls this in its transaction.

    `level` is the stream's, "study" or "series"; None is no stream (the node's
    own AE title, an upload without one): then there is no arrival, and None is
    returned.  Otherwise the arrival's id is.
    """
    arrival_id = None
    if level is not None:
        series_uid = reception.series_uid if level == "series" else ""
        arrival_id = touch(connection, reception, series_uid)
    facts = {name: getattr(reception, name) for name in Reception.__slots__ if name != "series_uid"}
    insert_new(connection, t.receptions, {**facts, "arrival_id": arrival_id})
    return arrival_id


def is_received(connection: sa.Connection, association_id: str, sop_instance_uid: str) -> bool:
    """Say whether an association's instance was recorded already; adoption asks this."""
    r = t.receptions.c
    query = sa.select(r.id).where(
        r.sop_instance_uid == sop_instance_uid, r.association_id == association_id
    )
    return connection.execute(query.limit(1)).first() is not None


def open_arrivals(db: Database, active_since: datetime) -> list[OpenArrival]:
    """List the open arrivals; an association silent since `active_since` is not counted."""
    with db.read() as connection:
        rows = connection.execute(
            sa.select(t.arrivals).where(t.arrivals.c.state == "open").order_by(t.arrivals.c.id)
        ).all()
        brought = _bringers(connection, t.arrivals.c.state == "open")
    return [_open_arrival(row, brought.get(row.id, ()), active_since) for row in rows]


def last_closed(connection: sa.Connection, arrival: OpenArrival) -> ClosedArrival | None:
    """Find the arrival of the same AE title and study that was closed last; None at the first."""
    a = t.arrivals.c
    row = connection.execute(
        sa.select(a.id, a.closed_at, a.incomplete, a.digest)
        .where(
            a.called_ae_title == arrival.called_ae_title,
            a.study_uid == arrival.study_uid,
            a.series_uid == arrival.series_uid,
            a.state == "closed",
        )
        .order_by(a.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    brought = _bringers(connection, a.id == row.id).get(row.id, ())
    callers = frozenset(one.calling_ae_title for one in brought)
    return ClosedArrival(row.closed_at, row.incomplete, row.digest, callers)


def close_arrival(
    connection: sa.Connection,
    arrival: OpenArrival,
    now: datetime,
    *,
    reason: str,
    incomplete: bool,
    digest: str,
    note: str = "",
    job_id: int | None = None,
) -> bool:
    """Move an arrival to closed; False when something came since it was judged."""
    result = connection.execute(
        sa.update(t.arrivals)
        .where(
            t.arrivals.c.id == arrival.id,
            t.arrivals.c.state == "open",
            t.arrivals.c.last_instance_at == arrival.last_instance_at,
        )
        .values(
            state="closed",
            closed_at=now,
            reason=reason,
            incomplete=incomplete,
            digest=digest,
            note=note,
            job_id=job_id,
        )
    )
    return result.rowcount == 1


def received_for(
    connection: sa.Connection, called_ae_title: str, study_uid: str, series_uid: str = ""
) -> list[Instance]:
    """List everything received for this AE title and study, but no result of ours."""
    wanted = (
        sa.select(t.receptions.c.sop_instance_uid)
        .where(
            t.receptions.c.called_ae_title == called_ae_title,
            t.receptions.c.study_uid == study_uid,
        )
        .distinct()
    )
    # What came under the UID of an instance of another study is not of this one.
    query = sa.select(t.instances).where(
        t.instances.c.sop_instance_uid.in_(wanted),
        t.instances.c.study_uid == study_uid,
        t.instances.c.made_by_job.is_(None),
    )
    if series_uid:
        query = query.where(t.instances.c.series_uid == series_uid)
    rows = connection.execute(query.order_by(t.instances.c.sop_instance_uid)).mappings()
    return [Instance(**row) for row in rows]


def senders_of(
    connection: sa.Connection, called_ae_title: str, study_uid: str, series_uid: str = ""
) -> list[Reception]:
    """List one reception for each sender of a study, or series; who sent last stands last."""
    r = t.receptions.c
    of_these = [r.called_ae_title == called_ae_title, r.study_uid == study_uid]
    if series_uid:
        i = t.instances.c
        of_it = sa.select(i.sop_instance_uid).where(i.series_uid == series_uid)
        of_these.append(r.sop_instance_uid.in_(of_it))
    rows = connection.execute(
        sa.select(r.calling_ae_title, r.address, sa.func.max(r.received_at))
        .where(*of_these)
        .group_by(r.calling_ae_title, r.address)
        .order_by(sa.func.max(r.received_at))
    ).all()
    return [
        Reception("", study_uid, series_uid, called_ae_title, calling, address, "", last_at)
        for calling, address, last_at in rows
    ]


def learned_quiet(db: Database) -> dict[str, tuple[float, int]]:
    """Map each calling AE title to its learned silence in seconds and its clean arrivals."""
    with db.read() as connection:
        rows = connection.execute(sa.select(t.senders)).all()
    return {row.calling_ae_title: (row.quiet_seconds, row.clean_arrivals) for row in rows}


def learn_quiet(
    connection: sa.Connection, calling_ae_title: str, quiet_seconds: float, clean_arrivals: int
) -> None:
    """Keep what was learned of a sender."""
    values = {"quiet_seconds": quiet_seconds, "clean_arrivals": clean_arrivals}
    key = {"calling_ae_title": calling_ae_title}
    if not insert_new(connection, t.senders, {**key, **values}):
        connection.execute(
            sa.update(t.senders)
            .where(t.senders.c.calling_ae_title == calling_ae_title)
            .values(**values)
        )


def _bringers(connection: sa.Connection, where: Any) -> dict[int, list[Bringer]]:
    """Map arrivals to the associations that brought them."""
    link, association = t.arrival_associations.c, t.associations.c
    rows = connection.execute(
        sa.select(
            link.arrival_id,
            link.last_instance_at,
            association.calling_ae_title,
            association.opened_at,
            association.last_activity_at,
            association.closed_at,
            association.ending,
        )
        .join(t.associations, association.id == link.association_id)
        .join(t.arrivals, t.arrivals.c.id == link.arrival_id)
        .where(where)
    )
    found: dict[int, list[Bringer]] = {}
    for arrival_id, last_instance_at, calling, opened_at, active_at, closed_at, ending in rows:
        one = Bringer(calling, opened_at, max(active_at, last_instance_at), closed_at, ending)
        found.setdefault(arrival_id, []).append(one)
    return found


def _open_arrival(row: Any, brought: Sequence[Bringer], active_since: datetime) -> OpenArrival:
    return OpenArrival(
        id=row.id,
        called_ae_title=row.called_ae_title,
        study_uid=row.study_uid,
        series_uid=row.series_uid,
        opened_at=row.opened_at,
        last_instance_at=row.last_instance_at,
        open_associations=sum(
            one.closed_at is None and one.last_activity_at >= active_since for one in brought
        ),
        endings=frozenset(one.ending for one in brought if one.ending),
        calling_ae_titles=frozenset(one.calling_ae_title for one in brought),
        associations=tuple(brought),
    )


_OPEN = Insert(
    t.associations,
    ("id", "called_ae_title", "calling_ae_title", "address", "process", "opened_at",
     "last_activity_at"),
    {"instances": "0", "failures": "0"},
    IGNORE,
)  # fmt: skip
# Made once: to build a statement takes longer than to run it.
_CLOSE = (
    sa.update(t.associations)
    .where(t.associations.c.id == sa.bindparam("of"), t.associations.c.closed_at.is_(None))
    .values(
        closed_at=sa.bindparam("at"),
        ending=sa.bindparam("as"),
        instances=sa.bindparam("kept"),
        failures=sa.bindparam("failed"),
    )
)
