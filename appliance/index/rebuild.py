"""Take into the index what the files tell: all of it into an empty one, or what a backup lacks.

The caller reads the files: stored instances with their File Meta, and the records
of ended jobs.  What was received and has no ended job gets an arrival, and so a job: its
sender was told that it is kept.  How its association ended no file tells, so that is
unknown, and the study counts as possibly incomplete.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from appliance.dicom.header import Header
from appliance.index import arrivals, catalog, events, job_numbers
from appliance.index import schema as t
from appliance.index.arrivals import Reception
from appliance.index.database import Database, insert_new
from appliance.index.former import Former, Subject, settled
from appliance.index.jobs import Job
from appliance.index.states import ACTIVE, ENDED, Ending

NOT_IN_FILES = "deliveries, events, receptions by a second AE title, jobs that a person had queued"
_ROUTED = "The index was made again from the files: what was sent of it is not known."


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file below studies/; the AE titles are those of its File Meta, "" when it has none.

    `older` are the names of the contents that this one took the place of.
    """

    header: Header
    path: str
    size_bytes: int
    dataset_sha256: str
    written_at: datetime
    called_ae_title: str
    calling_ae_title: str
    address: str
    older: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What the files tell: stored ones, oldest first, and the records of ended jobs.

    `level_of` gives the level of the stream that an AE title names, None when there is
    none.  Of what was written before `since`, the job's record may have been removed.
    """

    files: Iterable[StoredFile]
    records: Iterable[Mapping[str, Any]]
    highest_job_id: int
    level_of: Callable[[str], str | None]
    since: datetime


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What the new index holds; `arrivals` are studies of which a job is still to be made."""

    studies: int
    instances: int
    receptions: int
    jobs: int
    arrivals: int
    next_job_id: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What an index that was put back did not know."""

    instances: int
    jobs: int
    arrivals: int


def rebuild(
    db: Database, told: Told, former: Former | None, now: datetime, who: str = ""
) -> Rebuilt:
    """Fill the index in one transaction, in the place of whatever it held.

    `former` is what could be read of the index before; None when nothing could.
    """
    with db.write() as connection:
        for table in reversed(t.metadata.sorted_tables):
            connection.execute(sa.delete(table))
        taken = _Taking(connection, told, former.settled if former else {}, now)
        receptions = taken.take_all(datetime.min.replace(tzinfo=UTC))
        last = max(told.highest_job_id, taken.last_job_id, former.last_job_id if former else 0)
        done = Rebuilt(
            studies=_count(connection, t.studies),
            instances=_count(connection, t.instances),
            receptions=receptions,
            jobs=taken.jobs,
            arrivals=_count(connection, t.arrivals),
            next_job_id=job_numbers.go_on_above(connection, last),
        )
        sentence = f"The index was made again from {done.instances} files and {done.jobs} jobs."
        events.append(connection, "index rebuilt", sentence, now, who=who)
        return done


def catch_up(db: Database, told: Told, made_at: datetime, now: datetime, who: str = "") -> CaughtUp:
    """Take what came after `made_at` into an index that was put back, in one transaction.

    Otherwise its files would be taken for leftovers, and its job numbers given again.
    """
    with db.write() as connection:
        before = _count(connection, t.instances), _count(connection, t.arrivals)
        taken = _Taking(connection, told, {}, now)
        taken.take_all(made_at)
        job_numbers.go_on_above(connection, max(told.highest_job_id, taken.last_job_id))
        sentence = f"The index was put back as it was at {made_at:%Y-%m-%d %H:%M:%S} UTC."
        events.append(connection, "backup restored", sentence, now, who=who)
        return CaughtUp(
            instances=_count(connection, t.instances) - before[0],
            jobs=taken.jobs,
            arrivals=_count(connection, t.arrivals) - before[1],
        )


class _Taking:
    """What is kept in mind while the files are taken in."""

    def __init__(
        self,
        connection: sa.Connection,
        told: Told,
        settled_before: Mapping[Subject, datetime],
        now: datetime,
    ) -> None:
        self._connection = connection
        self._told = told
        self._settled = dict(settled_before)
        self._makers: dict[str, int] = {}
        self._now = now
        self.jobs = 0
        self.last_job_id = 0

    def take_all(self, made_at: datetime) -> int:
        """Take in the jobs, then the files; how many receptions these told of."""
        for record in self._told.records:
            self._take_job(record, made_at)
        for subject, at in settled(self._connection).items():
            self._settled[subject] = max(at, self._settled.get(subject, at))
        receptions = sum(self._take_file(one) for one in self._told.files)
        _correct_studies(self._connection)
        _correct_associations(self._connection)
        return receptions

    def _take_job(self, record: Mapping[str, Any], made_at: datetime) -> None:
        values = _values_of(record)
        if values is None:
            return
        self.last_job_id = max(self.last_job_id, values["id"])
        self._makers.update({str(uid): values["id"] for uid in record.get("results", ())})
        is_new = insert_new(self._connection, t.jobs, values)
        if is_new or _ended_since(self._connection, values, made_at):
            _add_parts(self._connection, values["id"], record)
            self.jobs += 1

    def _take_file(self, one: StoredFile) -> bool:
        is_new = catalog.add_instance(
            self._connection,
            one.header,
            path=one.path,
            size_bytes=one.size_bytes,
            dataset_sha256=one.dataset_sha256,
            now=one.written_at,
            made_by_job=self._makers.get(one.header.sop_instance_uid),
        )
        if not (is_new or self._takes_over(one)) or not one.called_ae_title:
            return False
        reception = _reception(one)
        level = self._level(one)
        if level is not None:
            _add_association(self._connection, reception, self._now)
        arrivals.receive(self._connection, reception, level)
        return True

    def _takes_over(self, one: StoredFile) -> bool:
        """Let the newest content be the instance, in whatever order the files are read."""
        kept = catalog.find_instance(self._connection, one.header.sop_instance_uid)
        if kept is None or kept.path not in one.older:
            return False
        return catalog.replace_content(
            self._connection,
            kept,
            one.header,
            path=one.path,
            size_bytes=one.size_bytes,
            dataset_sha256=one.dataset_sha256,
            now=one.written_at,
        )

    def _level(self, one: StoredFile) -> str | None:
        """Give the level of the arrival that a file still needs; None when it needs none."""
        if one.written_at < self._told.since or self._is_settled(one):
            return None
        return self._told.level_of(one.called_ae_title)

    def _is_settled(self, one: StoredFile) -> bool:
        """Say whether a job that has ended took this instance, or passed it over."""
        for series in ("", one.header.series_uid):
            at = self._settled.get((one.called_ae_title, one.header.study_uid, series))
            if at is not None and one.written_at <= at:
                return True
        # A file that was copied without its time is younger than its job.
        i, j = t.job_inputs.c, t.jobs.c
        query = (
            sa.select(j.id)
            .join_from(t.job_inputs, t.jobs, j.id == i.job_id)
            .where(
                i.sop_instance_uid == one.header.sop_instance_uid,
                j.ae_title == one.called_ae_title,
                j.state.in_(ENDED),
            )
        )
        return self._connection.execute(query.limit(1)).first() is not None


def _values_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the row of an ended job; None when the record is not of one."""
    values = {
        field.name: _value(field.name, record[field.name])
        for field in fields(Job)
        if field.name in record
    }
    if values.get("state") not in list(ENDED) or values.get("created_at") is None:
        return None
    if values.get("routed_at") is None:
        # The router must not send all of it once more.
        values.update(routed_at=values.get("ended_at"), routing_note=_ROUTED)
    values.update(lease_until=None, is_held=False)
    return values


def _ended_since(connection: sa.Connection, values: dict[str, Any], made_at: datetime) -> bool:
    """Let a job end that waited or ran when the backup was made; False when it did not end since.

    A record that is older than the backup is of a job that was queued again.
    """
    ended_at = values.get("ended_at")
    if ended_at is None or ended_at <= made_at:
        return False
    c = t.jobs.c
    result = connection.execute(
        sa.update(t.jobs).where(c.id == values["id"], c.state.in_(ACTIVE)).values(**values)
    )
    return result.rowcount == 1


def _add_parts(connection: sa.Connection, job_id: int, record: Mapping[str, Any]) -> None:
    for uid in record.get("inputs", ()):
        insert_new(connection, t.job_inputs, {"job_id": job_id, "sop_instance_uid": str(uid)})
    connection.execute(sa.delete(t.job_steps).where(t.job_steps.c.job_id == job_id))
    for step in record.get("steps", ()):
        times = {name: _time(step.get(name)) for name in ("started_at", "ended_at")}
        connection.execute(sa.insert(t.job_steps).values({**step, **times, "job_id": job_id}))


def _reception(one: StoredFile) -> Reception:
    sender = (one.header.study_uid, one.called_ae_title, one.calling_ae_title, one.address)
    return Reception(
        sop_instance_uid=one.header.sop_instance_uid,
        study_uid=one.header.study_uid,
        series_uid=one.header.series_uid,
        called_ae_title=one.called_ae_title,
        calling_ae_title=one.calling_ae_title,
        address=one.address,
        association_id=f"r{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(sender)).hex[:31]}",
        received_at=one.written_at,
    )


def _add_association(connection: sa.Connection, reception: Reception, now: datetime) -> None:
    """Let a study have been brought; how that ended, and what was refused, nobody knows."""
    values = {
        "id": reception.association_id,
        "called_ae_title": reception.called_ae_title,
        "calling_ae_title": reception.calling_ae_title,
        "address": reception.address,
        "process": "",
        "opened_at": reception.received_at,
        "last_activity_at": reception.received_at,
        "closed_at": now,
        "ending": Ending.UNKNOWN,
        "instances": 0,
        "failures": 0,
    }
    insert_new(connection, t.associations, values)


def _correct_studies(connection: sa.Connection) -> None:
    """Let each study's times be those of its first and last instance."""
    i, s = t.instances.c, t.studies.c
    mine = i.study_uid == s.study_uid
    first = sa.select(sa.func.min(i.received_at)).where(mine).scalar_subquery()
    last = sa.select(sa.func.max(i.received_at)).where(mine).scalar_subquery()
    kept = s.study_uid.in_(sa.select(i.study_uid))
    times = {"first_received_at": first, "last_received_at": last}
    connection.execute(sa.update(t.studies).where(kept).values(**times))


def _correct_associations(connection: sa.Connection) -> None:
    """Let each association that only the files tell of have brought all that is kept of it."""
    a, r = t.associations.c, t.receptions.c
    mine = r.association_id == a.id
    values = {
        "instances": sa.func.count(r.sop_instance_uid.distinct()),
        "opened_at": sa.func.min(r.received_at),
        "last_activity_at": sa.func.max(r.received_at),
    }
    told = {name: sa.select(value).where(mine).scalar_subquery() for name, value in values.items()}
    kept = a.id.in_(sa.select(r.association_id))
    unknown = a.ending == Ending.UNKNOWN
    connection.execute(sa.update(t.associations).where(unknown, kept).values(**told))


def _value(name: str, raw: Any) -> Any:
    return _time(raw) if isinstance(t.jobs.c[name].type, t.Utc) else raw


def _time(raw: Any) -> datetime | None:
    return None if raw is None else datetime.fromisoformat(str(raw))


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
