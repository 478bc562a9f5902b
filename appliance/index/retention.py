"""What may be removed to make room, and its removal from the catalog; the housekeeper's.

Nothing of a study is removed while something of it is still to happen: it arrives,
a job of it waits or runs, a person holds its results, or they are not all sent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from appliance.index import catalog
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.states import ACTIVE, DeliveryState, JobState


@dataclass(frozen=True, slots=True)
class Holding:
    """Instances that go together: what was received of a study, or what a job made.

    `since` is when their time began to run: the last reception, or the end of the last job.
    """

    kind: Literal["received", "results"]
    study_uid: str
    job_id: int | None
    size_bytes: int
    files: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why some studies stay whatever their age, and the space that they take."""

    reason: str
    studies: int
    size_bytes: int


def received(
    connection: sa.Connection, before: datetime | None = None, limit: int = 500
) -> list[Holding]:
    """List received studies that may go, those whose time began before a moment, oldest first."""
    i, j = t.instances.c, t.jobs.c
    last_end = (
        sa.select(sa.func.max(j.ended_at)).where(j.study_uid == i.study_uid).scalar_subquery()
    )
    # The study's own time: a second copy of an instance that is kept leaves its row as it is.
    last_in = sa.func.max(t.studies.c.last_received_at)
    since = sa.case((sa.func.coalesce(last_end, "") > last_in, last_end), else_=last_in)
    query = (
        sa.select(i.study_uid, sa.func.sum(i.size_bytes), sa.func.count(), since.label("since"))
        .join_from(t.instances, t.studies, t.studies.c.study_uid == i.study_uid)
        .where(i.made_by_job.is_(None), i.study_uid.not_in(_busy_studies()))
        .group_by(i.study_uid)
        .order_by("since")
        .limit(limit)
    )
    if before is not None:
        # The first condition is cheap: it spares the rest for what came lately.
        old = sa.select(t.studies.c.study_uid).where(t.studies.c.first_received_at < before)
        query = query.where(i.study_uid.in_(old)).having(since < sa.literal(before, t.Utc))
    return [
        Holding("received", study_uid, None, int(size), files, _time(at))
        for study_uid, size, files, at in connection.execute(query)
    ]


def results(
    connection: sa.Connection, before: datetime | None = None, limit: int = 500
) -> list[Holding]:
    """List the jobs' results that may go, of jobs that ended before a moment, oldest first."""
    i, j = t.instances.c, t.jobs.c
    since = sa.func.coalesce(sa.func.max(j.ended_at), sa.func.max(i.received_at))
    query = (
        sa.select(
            i.made_by_job,
            i.study_uid,
            sa.func.sum(i.size_bytes),
            sa.func.count(),
            since.label("since"),
        )
        .join_from(t.instances, t.jobs, j.id == i.made_by_job, isouter=True)
        .where(i.made_by_job.is_not(None), i.study_uid.not_in(_busy_studies()))
        # A stream that changes the patient makes results of a study that is not the job's.
        .where(sa.or_(j.study_uid.is_(None), j.study_uid.not_in(_busy_studies())))
        .group_by(i.made_by_job, i.study_uid)
        .order_by("since")
        .limit(limit)
    )
    if before is not None:
        query = query.having(since < sa.literal(before, t.Utc))
    return [
        Holding("results", study_uid, job_id, int(size), files, _time(at))
        for job_id, study_uid, size, files, at in connection.execute(query)
    ]


def forget(db: Database, holding: Holding, portion: int = 500) -> list[str]:
    """Take some of a holding out of the catalog; give the paths of its files, for removal.

    Called until it gives none: nothing is left then, or the study has become busy.
    """
    i = t.instances.c
    mine = i.made_by_job.is_(None) if holding.job_id is None else i.made_by_job == holding.job_id
    try:
        with db.write() as connection:
            if _is_busy(connection, holding):
                return []
            rows = connection.execute(
                sa.select(i.sop_instance_uid, i.path)
                .where(i.study_uid == holding.study_uid, mine)
                .order_by(i.sop_instance_uid)
                .limit(portion)
            ).all()
            for row in rows:
                db.lock(connection, f"instance {row.sop_instance_uid}")
            # PostgreSQL: whoever held one of these locks may have received it again just now.
            if _is_busy(connection, holding) or _came_again(connection, holding):
                return []
            _forget(connection, [row.sop_instance_uid for row in rows], holding.study_uid)
            return [row.path for row in rows]
    except sa.exc.IntegrityError:
        return []  # PostgreSQL: one of them was received again in this very moment


def ended_jobs(connection: sa.Connection, job_ids: Collection[int]) -> dict[int, datetime]:
    """Map those of these jobs that have ended to when they did, the busy ones left out."""
    j = t.jobs.c
    found: dict[int, datetime] = {}
    wanted = sorted(job_ids)
    for start in range(0, len(wanted), 500):
        query = sa.select(j.id, j.ended_at).where(
            j.id.in_(wanted[start : start + 500]),
            j.ended_at.is_not(None),
            j.state.not_in(list(ACTIVE)),
            j.study_uid.not_in(_busy_studies()),
        )
        found.update((job_id, ended) for job_id, ended in connection.execute(query) if ended)
    return found


def unknown_jobs(connection: sa.Connection, job_ids: Collection[int]) -> set[int]:
    """Give those of these jobs that have no row."""
    known: set[int] = set()
    wanted = sorted(job_ids)
    for start in range(0, len(wanted), 500):
        query = sa.select(t.jobs.c.id).where(t.jobs.c.id.in_(wanted[start : start + 500]))
        known.update(connection.scalars(query))
    return set(wanted) - known


def unknown_paths(connection: sa.Connection, paths: Sequence[str]) -> set[str]:
    """Give those of these paths below data_root that no instance has."""
    known: set[str] = set()
    for start in range(0, len(paths), 500):
        some = paths[start : start + 500]
        query = sa.select(t.instances.c.path).where(t.instances.c.path.in_(some))
        known.update(connection.scalars(query))
    return set(paths) - known


def hindrances(connection: sa.Connection) -> list[Hindrance]:
    """Say for what reasons studies may not be removed now, the largest first."""
    found = []
    for reason, studies in _reasons().items():
        uids = studies.subquery()
        size = sa.select(
            sa.func.count(t.instances.c.study_uid.distinct()),
            sa.func.coalesce(sa.func.sum(t.instances.c.size_bytes), 0),
        ).where(t.instances.c.study_uid.in_(sa.select(uids)))
        count, size_bytes = connection.execute(size).one()
        if count:
            found.append(Hindrance(reason, count, int(size_bytes)))
    return sorted(found, key=lambda one: -one.size_bytes)


def kept_bytes(connection: sa.Connection) -> int:
    """Add up what all kept instances take."""
    query = sa.select(sa.func.coalesce(sa.func.sum(t.instances.c.size_bytes), 0))
    return int(connection.scalar(query) or 0)


def move_leases(db: Database, by: timedelta) -> int:
    """Move the leases of running jobs and of deliveries by a jump of the clock; how many.

    So move the moments of next tries, or a clock that was set back would put them off.
    """
    with db.write() as connection:
        for table, column, state in (
            (t.jobs, t.jobs.c.not_before, JobState.QUEUED),
            (t.deliveries, t.deliveries.c.due_at, DeliveryState.DUE),
        ):
            _move(connection, column, by, table.c.state == state)
        return sum(_move(connection, one.c.lease_until, by) for one in (t.jobs, t.deliveries))


def _move(
    connection: sa.Connection, column: sa.Column[Any], by: timedelta, *only: sa.ColumnElement[bool]
) -> int:
    table = column.table
    found = sa.select(table.c.id, column).where(column.is_not(None), *only)
    moved = 0
    for row_id, at in connection.execute(found).all():
        update = sa.update(table).where(table.c.id == row_id, column == at)
        moved += connection.execute(update.values({column: at + by})).rowcount
    return moved


def _reasons() -> dict[str, sa.Select[Any]]:
    """Map each reason why a study is busy to the Study UIDs that it holds."""
    a, j, d = t.arrivals.c, t.jobs.c, t.deliveries.c
    ended = [JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED]
    sending = [DeliveryState.DUE, DeliveryState.SENDING]
    return {
        "being erased": sa.select(t.studies.c.study_uid).where(
            t.studies.c.going_since.is_not(None)
        ),
        "still arriving": sa.select(a.study_uid).where(a.state == "open"),
        "jobs wait or run": sa.select(j.study_uid).where(j.state.in_(list(ACTIVE))),
        "results that a person must release": sa.select(j.study_uid).where(j.is_held),
        "results that the router has not looked at": sa.select(j.study_uid).where(
            j.state.in_(ended), j.routed_at.is_(None), j.is_held.is_(False)
        ),
        "deliveries that are still to be sent": sa.select(j.study_uid)
        .join_from(t.deliveries, t.jobs, j.id == d.job_id)
        .where(d.state.in_(sending)),
    }


def _busy_studies() -> sa.Select[Any]:
    return sa.select(sa.union(*_reasons().values()).subquery().c.study_uid)


def _is_busy(connection: sa.Connection, holding: Holding) -> bool:
    uids = sa.union(*_reasons().values()).subquery()
    made_of = sa.select(t.jobs.c.study_uid).where(t.jobs.c.id == holding.job_id)
    its_own = sa.or_(uids.c.study_uid == holding.study_uid, uids.c.study_uid.in_(made_of))
    return connection.scalar(sa.select(uids.c.study_uid).where(its_own).limit(1)) is not None


def _came_again(connection: sa.Connection, holding: Holding) -> bool:
    s = t.studies.c
    last_in = sa.select(s.last_received_at).where(s.study_uid == holding.study_uid)
    found: datetime | None = connection.scalar(last_in)
    return holding.kind == "received" and found is not None and found > holding.since


def _forget(connection: sa.Connection, uids: Sequence[str], study_uid: str) -> None:
    i, r, s = t.instances.c, t.receptions.c, t.series.c
    for start in range(0, len(uids), 500):
        some = uids[start : start + 500]
        connection.execute(sa.delete(t.receptions).where(r.sop_instance_uid.in_(some)))
        connection.execute(sa.delete(t.instances).where(i.sop_instance_uid.in_(some)))
    catalog.hand_over_series(connection, [study_uid])
    used = sa.select(i.series_uid).where(i.study_uid == study_uid)
    connection.execute(
        sa.delete(t.series).where(s.study_uid == study_uid, s.series_uid.not_in(used))
    )
    left = sa.select(s.series_uid).where(s.study_uid == study_uid).limit(1)
    if connection.scalar(left) is None:
        connection.execute(sa.delete(t.studies).where(t.studies.c.study_uid == study_uid))


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    found = t.Utc().process_result_value(value, None)  # type: ignore[arg-type]
    assert found is not None
    return found
