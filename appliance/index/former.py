"""What the index that is replaced by a rebuild knows and no file tells: the jobs that wait or run.

It is read as far as it can be, before; what became of those jobs is told after.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.errors import IndexUnavailable
from appliance.index import job_numbers
from appliance.index import schema as t
from appliance.index.carried import Sends, read_sends
from appliance.index.database import Database
from appliance.index.states import ACTIVE, ENDED, DeliveryState, JobState

# (called AE title, Study UID, Series UID or ""): what an arrival, and so a job, is of.
Subject = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Unended:
    """A job that waited or ran."""

    id: int
    ae_title: str
    study_uid: str
    series_uid: str
    state: str
    run_again_of: int | None


@dataclass(frozen=True, slots=True)
class Former:
    """What the former index held of use.

    `settled` is up to when what was received for a subject has had its job; `unsent`
    are the jobs whose results were not all sent, `sends` how far that had come.
    """

    unended: tuple[Unended, ...]
    settled: dict[Subject, datetime]
    unsent: tuple[int, ...]
    last_job_id: int
    sends: Sends


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a job that had not ended: a sentence, and what to type if anything."""

    job: Unended
    sentence: str
    remedy: str


def read_former(db: Database) -> Former:
    """Read an index that is to be replaced; IndexUnavailable when it cannot be."""
    c = t.jobs.c
    try:
        with db.read() as connection:
            rows = connection.execute(
                sa.select(
                    c.id, c.ae_title, c.study_uid, c.series_uid, c.state, c.run_again_of
                ).where(c.state.in_(ACTIVE))
            )
            return Former(
                unended=tuple(sorted((Unended(*row) for row in rows), key=lambda job: job.id)),
                settled=settled(connection),
                unsent=_unsent(connection),
                last_job_id=job_numbers.last_given(connection),
                sends=read_sends(connection, None),
            )
    except (sa.exc.SQLAlchemyError, ValueError) as error:
        raise _unreadable(error) from error


def read_sends_since(db: Database, since: datetime) -> Sends:
    """Read what became of sending since a backup was made; IndexUnavailable when it cannot be."""
    try:
        with db.read() as connection:
            return read_sends(connection, since)
    except (sa.exc.SQLAlchemyError, ValueError) as error:
        raise _unreadable(error) from error


def settled(connection: sa.Connection) -> dict[Subject, datetime]:
    """Map subjects to when the last of their ended jobs was made: it had all until then.

    Not so a job that a person had run again, which had what its original had.
    """
    c = t.jobs.c
    rows = connection.execute(
        sa.select(c.ae_title, c.study_uid, c.series_uid, sa.func.max(c.created_at))
        .where(c.state.in_(ENDED), c.run_again_of.is_(None))
        .group_by(c.ae_title, c.study_uid, c.series_uid)
    )
    return {(ae_title, study, series): at for ae_title, study, series, at in rows}


def fates(db: Database, former: Former) -> list[Fate]:
    """Say of each job that had not ended what the new index has in its place."""
    with db.read() as connection:
        return [_fate(connection, job) for job in former.unended]


def _fate(connection: sa.Connection, job: Unended) -> Fate:
    named = f"Job {job.id} ({job.ae_title}, {job.state})"
    c, a = t.jobs.c, t.arrivals.c
    state = connection.scalar(sa.select(c.state).where(c.id == job.id))
    if state is not None:
        again = "retry" if state in (JobState.FAILED, JobState.CANCELLED) else "run-again"
        sentence = f"{named} is back as it had ended before: {state}."
        return Fate(job, sentence, f"brookbox jobs {again} {job.id}")
    if job.run_again_of is not None:
        sentence = f"{named} was to run job {job.run_again_of} again and does not come back."
        original = connection.scalar(sa.select(c.id).where(c.id == job.run_again_of))
        return Fate(
            job, sentence, f"brookbox jobs run-again {original}" if original else _send(job)
        )
    arrival = sa.select(a.id).where(
        a.called_ae_title == job.ae_title,
        a.study_uid == job.study_uid,
        a.series_uid == job.series_uid,
        a.state == "open",
    )
    if connection.scalar(arrival) is not None:
        return Fate(job, f"{named}: a new job is made of its study.", "")
    return Fate(job, f"{named} does not come back.", _send(job))


def _unreadable(error: Exception) -> IndexUnavailable:
    """Say that it has another schema, or damaged rows."""
    return IndexUnavailable(
        f"the index holds what this program cannot read: {getattr(error, 'orig', error)}",
        remedy="brookbox doctor",
    )


def _send(job: Unended) -> str:
    return f"send the study to {job.ae_title} again"


def _unsent(connection: sa.Connection) -> tuple[int, ...]:
    j, d = t.jobs.c, t.deliveries.c
    ended = [JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED]
    unrouted = sa.select(j.id).where(j.state.in_(ended), j.routed_at.is_(None), j.result_count > 0)
    sending = [DeliveryState.DUE, DeliveryState.SENDING]
    due = sa.select(d.job_id).where(d.state.in_(sending))
    return tuple(sorted(connection.scalars(sa.union(unrouted, due))))
