"""Take into the index what the files tell: all of it into an empty one, or what a backup lacks.

The caller reads the files: stored instances with their File Meta, and the records
of ended jobs.  What was received and has no ended job gets an arrival, and so a job: its
sender was told that it is kept.  How its association ended no file tells, so that is
unknown, and the study counts as possibly incomplete.  A result that no record names is of
a job that had not ended for all we know: it is left to the caller, to stand out of the way.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from appliance.amounts import count
from appliance.dicom.header import Header
from appliance.index import (
    arrivals,
    catalog,
    events,
    job_numbers,
    told_associations,
    unknown_sends,
)
from appliance.index import schema as t
from appliance.index.carried import Carried, Sends, carry_over
from appliance.index.database import Database
from appliance.index.former import Former, Subject, settled
from appliance.index.job_records import Records, supersede_older
from appliance.index.reception import Reception
from appliance.index.states import ACTIVE, ENDED

NOT_IN_FILES = (
    "deliveries, events (but for the ends of jobs), receptions by a second AE title, jobs that a "
    "person had queued, the cancelling of a job that waited, in the last minute before"
)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file below studies/; the AE titles are those of its File Meta, "" when it has none.

    `older` are the names of the contents that this one took the place of; `is_result` is what
    the node wrote for a stream.
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
    is_result: bool = False


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
    """What the new index holds; `arrivals` are studies of which a job is still to be made.

    `leftovers` are the stored files that it does not hold: results of jobs that had not ended,
    which are made again.  `older` are the names of contents that others took the place of.
    `due` counts the deliveries of the former index that go on, `unknown_sends` are the jobs
    of which nobody knows whether their results were sent, `unsent` those whose results the
    former index still had to send and that are not here.
    """

    studies: int
    instances: int
    receptions: int
    jobs: int
    arrivals: int
    next_job_id: int
    leftovers: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    due: int = 0
    unknown_sends: tuple[int, ...] = ()
    unsent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What an index that was put back did not know; what has no counterpart is as of a rebuild.

    `unknown_sends` are only those that ended after the backup.
    """

    instances: int
    jobs: int
    arrivals: int
    leftovers: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    due: int = 0
    unknown_sends: tuple[int, ...] = ()


def rebuild(
    db: Database, told: Told, former: Former | None, now: datetime, who: str = ""
) -> Rebuilt:
    """Fill the index in one transaction, in the place of whatever it held.

    `former` is what could be read of the index before; None when nothing could.
    """
    with db.write() as connection:
        for table in reversed(t.metadata.sorted_tables):
            connection.execute(sa.delete(table))
        sends = former.sends if former else Sends()
        taken = _Taking(connection, told, former.settled if former else {}, sends, now)
        receptions = taken.take_all(datetime.min.replace(tzinfo=UTC))
        ids = told.highest_job_id, taken.records.last_job_id, former.last_job_id if former else 0
        done = Rebuilt(
            studies=_count(connection, t.studies),
            instances=_count(connection, t.instances),
            receptions=receptions,
            jobs=taken.records.jobs,
            arrivals=_count(connection, t.arrivals),
            next_job_id=job_numbers.go_on_above(connection, max(ids)),
            leftovers=tuple(taken.leftovers),
            older=tuple(taken.older),
            due=taken.carried.due,
            unknown_sends=tuple(unknown_sends.unknown_jobs(connection)),
            unsent=tuple(
                job for job in (former.unsent if former else ()) if job not in taken.carried.jobs
            ),
        )
        sentence = f"The index was made again from {done.instances} files and {done.jobs} jobs."
        _tell(connection, "index rebuilt", sentence, done, now, who)
        return done


def catch_up(
    db: Database,
    told: Told,
    made_at: datetime,
    now: datetime,
    who: str = "",
    before: Sends | None = None,
) -> CaughtUp:
    """Take what came after `made_at` into an index that was put back, in one transaction.

    Otherwise its files would be taken for leftovers, and its job numbers given again.
    `before` is what could be read of the index that it took the place of.
    """
    with db.write() as connection:
        had = _count(connection, t.instances), _count(connection, t.arrivals)
        taken = _Taking(connection, told, {}, before or Sends(), now)
        taken.take_all(made_at)
        job_numbers.go_on_above(connection, max(told.highest_job_id, taken.records.last_job_id))
        done = CaughtUp(
            instances=_count(connection, t.instances) - had[0],
            jobs=taken.records.jobs,
            arrivals=_count(connection, t.arrivals) - had[1],
            leftovers=tuple(taken.leftovers),
            older=tuple(taken.older),
            due=taken.carried.due,
            unknown_sends=tuple(unknown_sends.unknown_jobs(connection, made_at)),
        )
        sentence = f"The index was put back as it was at {made_at:%Y-%m-%d %H:%M:%S} UTC."
        _tell(connection, "backup restored", sentence, done, now, who)
        return done


def _tell(
    connection: sa.Connection,
    kind: str,
    sentence: str,
    done: Rebuilt | CaughtUp,
    now: datetime,
    who: str,
) -> None:
    if done.due:
        sentence += f" {count(done.due, 'delivery')} of the index before go on."
    if done.unknown_sends:
        sentence += f" {unknown_sends.sentence(len(done.unknown_sends))}"
    events.append(connection, kind, sentence, now, who=who, unknown_sends=done.unknown_sends)


class _Taking:
    """What is kept in mind while the files are taken in."""

    def __init__(
        self,
        connection: sa.Connection,
        told: Told,
        settled_before: Mapping[Subject, datetime],
        sends: Sends,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._told = told
        self._settled = dict(settled_before)
        self._sends = sends
        self._now = now
        self.carried = Carried()
        self.records = Records(connection)
        self.leftovers: list[str] = []
        self.older: list[str] = []

    def take_all(self, made_at: datetime) -> int:
        """Take in the jobs, then the files; how many receptions these told of."""
        self.records.take_all(self._told.records, made_at)
        self.carried = carry_over(self._connection, self._sends, self._now)
        supersede_older(self._connection, self._now)
        for subject, at in settled(self._connection).items():
            self._settled[subject] = max(at, self._settled.get(subject, at))
        unnamed: list[StoredFile] = []
        receptions = 0
        for one in self._told.files:
            if self._is_unnamed(one):
                unnamed.append(one)
            else:
                receptions += self._take_file(one)
        self._take_unnamed(unnamed)
        _correct_studies(self._connection)
        told_associations.correct(self._connection)
        return receptions

    def _is_unnamed(self, one: StoredFile) -> bool:
        """Say whether this is a result without a record that could name it, and should."""
        is_young = one.written_at >= self._told.since
        return one.is_result and is_young and one.header.sop_instance_uid not in self.records.makers

    def _take_unnamed(self, results: Iterable[StoredFile]) -> None:
        """Leave out the results that a job is going to make again; take in the rest.

        Known, their UIDs would have that job fail, or the study have them twice.  Where no job
        comes (its stream is gone, or the jobs' folders are, and their studies are not young)
        they hurt nobody, and nobody makes them again.  A study that holds nothing received was
        made of another one, and which one nobody knows: any job to come may be its maker.
        """
        coming = _with_a_job_to_come(self._connection)
        for one in results:
            study_uid = one.header.study_uid
            if study_uid in coming or (coming and not _was_received(self._connection, study_uid)):
                self.leftovers.append(one.path)
            else:
                self._take_file(one)

    def _take_file(self, one: StoredFile) -> bool:
        is_new = catalog.add_instance(
            self._connection,
            one.header,
            path=one.path,
            size_bytes=one.size_bytes,
            dataset_sha256=one.dataset_sha256,
            now=one.written_at,
            made_by_job=self.records.makers.get(one.header.sop_instance_uid),
        )
        if not (is_new or self._takes_over(one)):
            return False
        self.older += one.older
        if not one.called_ae_title:
            return False
        reception = _reception(one)
        level = self._level(one)
        if level is not None:
            told_associations.add(self._connection, reception, self._now)
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


def _with_a_job_to_come(connection: sa.Connection) -> frozenset[str]:
    """Give the studies of which a job waits, runs, or is still to be made."""
    a, j = t.arrivals.c, t.jobs.c
    arrived = sa.select(a.study_uid).where(a.state == "open")
    return frozenset(
        connection.scalars(sa.union(arrived, sa.select(j.study_uid).where(j.state.in_(ACTIVE))))
    )


def _was_received(connection: sa.Connection, study_uid: str) -> bool:
    i, r = t.instances.c, t.receptions.c
    query = (
        sa.select(r.id)
        .join_from(t.instances, t.receptions, i.sop_instance_uid == r.sop_instance_uid)
        .where(i.study_uid == study_uid)
    )
    return connection.scalar(query.limit(1)) is not None


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


def _correct_studies(connection: sa.Connection) -> None:
    """Let each study's times be those of its first and last instance."""
    i, s = t.instances.c, t.studies.c
    mine = i.study_uid == s.study_uid
    first = sa.select(sa.func.min(i.received_at)).where(mine).scalar_subquery()
    last = sa.select(sa.func.max(i.received_at)).where(mine).scalar_subquery()
    kept = s.study_uid.in_(sa.select(i.study_uid))
    times = {"first_received_at": first, "last_received_at": last}
    connection.execute(sa.update(t.studies).where(kept).values(**times))


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
