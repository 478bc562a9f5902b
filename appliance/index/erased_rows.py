"""The rows of what is erased: deleted in one transaction, its tombstones put in their place.

Events stay, with their kind, who and when, but say no more of what they were about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from appliance.dicom.names import uids_in, without_uids
from appliance.index import catalog, events, tombstones
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.extent import Extent, Made, portions
from appliance.index.tombstones import Tombstone

_TRIES = 5
_WORDS = ("sentence", "facts")


def erase(
    db: Database,
    gone: Extent,
    stones: Sequence[Tombstone],
    sentence: str,
    facts: dict[str, Any],
    take_away: Callable[[Sequence[Made]], None],
) -> None:
    """Delete every row of it, once; the event with this sentence is the erasure's own.

    `take_away` is called in the transaction and takes the files of the results whose
    studies stay, when nobody else can register their names.
    """
    for left in range(_TRIES, 0, -1):
        try:
            with db.write() as connection:
                _erase(db, connection, gone, stones, sentence, facts, take_away)
            return
        except sa.exc.IntegrityError:
            # PostgreSQL: one of the results was received again in this very moment.
            if left == 1:
                raise


def erase_late_events(db: Database, gone: Extent, erasure: str) -> None:
    """Erase what others, who were at one of its jobs, have told of it in the meantime."""
    with db.write() as connection:
        for some in portions(gone.jobs):
            mine = t.events.c.job_id.in_(some)
            connection.execute(sa.update(t.events).where(mine).values(_said(erasure)))


def _erase(
    db: Database,
    connection: sa.Connection,
    gone: Extent,
    stones: Sequence[Tombstone],
    sentence: str,
    facts: dict[str, Any],
    take_away: Callable[[Sequence[Made]], None],
) -> None:
    erasure, now, who = stones[0].erasure, stones[0].at, stones[0].who
    _lock_jobs(connection, [*gone.jobs, *gone.makers])
    for one in gone.results:
        db.lock(connection, f"instance {one.sop_instance_uid}")
    take_away(gone.results)
    _erase_deliveries(connection, gone)
    _erase_results(connection, gone.results)
    _erase_studies(connection, gone.study_uids)
    _erase_jobs(connection, gone.jobs)
    _correct_makers(connection, gone.makers)
    _erase_events(connection, gone, erasure)
    _erase_alerts(connection, gone)
    tombstones.add(connection, stones)
    events.append(connection, "erased", sentence, now, who=who, erasure=erasure, **facts)


def _lock_jobs(connection: sa.Connection, jobs: Sequence[int]) -> None:
    """Wait for a router that is making deliveries of them, so that these go too."""
    j = t.jobs.c
    for some in portions(sorted(set(jobs))):
        rows = sa.select(j.id).where(j.id.in_(some)).order_by(j.id).with_for_update()
        connection.execute(rows).all()


def _erase_deliveries(connection: sa.Connection, gone: Extent) -> None:
    d, i = t.deliveries.c, t.delivery_instances.c
    for some in portions(gone.jobs):
        mine = sa.select(d.id).where(d.job_id.in_(some))
        connection.execute(sa.delete(t.delivery_instances).where(i.delivery_id.in_(mine)))
        connection.execute(sa.delete(t.deliveries).where(d.job_id.in_(some)))
    for some in portions(gone.makers):
        theirs = sa.select(d.id).where(d.job_id.in_(some))
        for uids in portions(sorted(gone.uids)):
            connection.execute(
                sa.delete(t.delivery_instances).where(
                    i.delivery_id.in_(theirs), i.sop_instance_uid.in_(uids)
                )
            )
        left = sa.select(i.delivery_id).where(i.delivery_id == d.id).exists()
        connection.execute(sa.delete(t.deliveries).where(d.job_id.in_(some), ~left))


def _erase_results(connection: sa.Connection, results: Sequence[Made]) -> None:
    i, s = t.instances.c, t.series.c
    for some in portions([one.sop_instance_uid for one in results]):
        series = list(
            connection.scalars(
                sa.select(i.series_uid).where(i.sop_instance_uid.in_(some)).distinct()
            )
        )
        _erase_instances(connection, some)
        used = sa.select(i.series_uid).where(i.series_uid == s.series_uid).exists()
        connection.execute(sa.delete(t.series).where(s.series_uid.in_(series), ~used))


def _erase_instances(connection: sa.Connection, uids: Sequence[str]) -> None:
    for table in (t.receptions, t.job_inputs, t.instances):
        connection.execute(sa.delete(table).where(table.c.sop_instance_uid.in_(uids)))


def _erase_studies(connection: sa.Connection, studies: Sequence[str]) -> None:
    a, i = t.arrivals.c, t.instances.c
    for uid in studies:
        kept = list(connection.scalars(sa.select(i.sop_instance_uid).where(i.study_uid == uid)))
        for some in portions(kept):
            _erase_instances(connection, some)
    for some in portions(studies):
        catalog.hand_over_series(connection, some)
        arrivals = sa.select(a.id).where(a.study_uid.in_(some))
        brought = t.arrival_associations
        connection.execute(sa.delete(brought).where(brought.c.arrival_id.in_(arrivals)))
        for table in (t.receptions, t.arrivals, t.series, t.studies):
            connection.execute(sa.delete(table).where(table.c.study_uid.in_(some)))


def _erase_jobs(connection: sa.Connection, jobs: Sequence[int]) -> None:
    for some in portions(jobs):
        for table in (t.job_inputs, t.job_steps):
            connection.execute(sa.delete(table).where(table.c.job_id.in_(some)))
        connection.execute(sa.update(t.lanes).where(t.lanes.c.job_id.in_(some)).values(job_id=None))
        connection.execute(sa.delete(t.jobs).where(t.jobs.c.id.in_(some)))


def _correct_makers(connection: sa.Connection, makers: Sequence[int]) -> None:
    """Let the jobs that stay say how many results they have left."""
    j, i = t.jobs.c, t.instances.c
    left = sa.select(sa.func.count()).where(i.made_by_job == j.id).scalar_subquery()
    for some in portions(makers):
        connection.execute(sa.update(t.jobs).where(j.id.in_(some)).values(result_count=left))


def _erase_events(connection: sa.Connection, gone: Extent, erasure: str) -> None:
    """Let the events of it say no more; of those that only name it the rest stays."""
    e, studies, jobs = t.events.c, set(gone.study_uids), set(gone.jobs)
    told = sa.select(e.id, e.study_uid, e.job_id, e.sentence, e.facts)
    mine: list[int] = []
    for row in connection.execute(told).all():
        if row.study_uid in studies or row.job_id in jobs:
            mine.append(row.id)
        elif not gone.uids.isdisjoint(uids_in(f"{row.sentence} {row.facts}")):
            less = {name: without_uids(row._mapping[name], gone.uids) for name in _WORDS}
            connection.execute(sa.update(t.events).where(e.id == row.id).values(less))
    for some in portions(mine):
        connection.execute(sa.update(t.events).where(e.id.in_(some)).values(_said(erasure)))


def _said(erasure: str) -> dict[str, object]:
    sentence = f"Erased. Erasure {erasure}."
    return {"study_uid": "", "job_id": None, "sentence": sentence, "facts": "{}"}


def _erase_alerts(connection: sa.Connection, gone: Extent) -> None:
    a = t.alerts.c
    rows = connection.execute(sa.select(a.id, a.subject, a.sentence, a.remedy))
    ids = [
        row.id
        for row in rows
        if not gone.uids.isdisjoint(uids_in(f"{row.subject} {row.sentence} {row.remedy}"))
    ]
    for some in portions(ids):
        connection.execute(sa.delete(t.alerts).where(a.id.in_(some)))
