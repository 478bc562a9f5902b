"""The read side of jobs: lists, counts, inputs, steps, and what the reconciler needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.catalog import Instance, Study
from appliance.index.jobs import Job, job_of
from appliance.index.states import ENDED, JobState


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one attempt, and when it was."""

    attempt: int
    name: str
    started_at: datetime
    ended_at: datetime | None
    detail: str


@dataclass(frozen=True, slots=True)
class Queued:
    """As much of a queued job as ringing needs."""

    id: int
    ae_title: str
    priority: int
    attempt: int
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list of jobs shows; empty fields do not narrow it."""

    states: tuple[str, ...] = ()
    ae_title: str = ""
    study_uid: str = ""
    text: str = ""  # patient name or ID, accession number: beginning with this
    before: int = 0  # only ids below this one: the next page


def jobs_matching(connection: sa.Connection, filter: Filter, limit: int) -> list[Job]:
    """List jobs, newest first."""
    c = t.jobs.c
    query = sa.select(t.jobs)
    if filter.states:
        query = query.where(c.state.in_(filter.states))
    if filter.ae_title:
        query = query.where(c.ae_title == filter.ae_title)
    if filter.study_uid:
        query = query.where(c.study_uid == filter.study_uid)
    if filter.before:
        query = query.where(c.id < filter.before)
    if filter.text:
        query = query.where(c.study_uid.in_(_studies_with(filter.text)))
    rows = connection.execute(query.order_by(c.id.desc()).limit(limit))
    return [job_of(row) for row in rows]


def studies_of(connection: sa.Connection, jobs: Sequence[Job]) -> dict[str, Study]:
    """Map Study UIDs to what the catalog has of the jobs' studies."""
    uids = {job.study_uid for job in jobs}
    query = sa.select(t.studies).where(t.studies.c.study_uid.in_(uids))
    return {row["study_uid"]: Study(**row) for row in connection.execute(query).mappings()}


def count_by_state(connection: sa.Connection, ae_title: str = "") -> dict[str, int]:
    """Count jobs by state, of one stream or of all; every state is there."""
    query = sa.select(t.jobs.c.state, sa.func.count()).group_by(t.jobs.c.state)
    if ae_title:
        query = query.where(t.jobs.c.ae_title == ae_title)
    counts = {str(state): 0 for state in JobState}
    counts.update(dict(connection.execute(query).all()))
    return counts


def count_held(connection: sa.Connection) -> int:
    """Count the jobs whose results wait for a person to release them."""
    query = sa.select(sa.func.count()).select_from(t.jobs).where(t.jobs.c.is_held)
    return connection.scalar(query) or 0


def waiting_by_stream(connection: sa.Connection) -> dict[str, int]:
    """Count the queued jobs of each stream, and the arrivals that will become some."""
    counts: dict[str, int] = {}
    queued = (
        sa.select(t.jobs.c.ae_title, sa.func.count())
        .where(t.jobs.c.state == JobState.QUEUED)
        .group_by(t.jobs.c.ae_title)
    )
    arriving = (
        sa.select(t.arrivals.c.called_ae_title, sa.func.count())
        .where(t.arrivals.c.state == "open")
        .group_by(t.arrivals.c.called_ae_title)
    )
    for query in (queued, arriving):
        for ae_title, count in connection.execute(query):
            counts[ae_title] = counts.get(ae_title, 0) + count
    return counts


def inputs_of(connection: sa.Connection, job_id: int) -> list[Instance]:
    """List the instances that a job works on, those still kept, in order of UID."""
    query = (
        sa.select(t.instances)
        .join(t.job_inputs, t.job_inputs.c.sop_instance_uid == t.instances.c.sop_instance_uid)
        .where(t.job_inputs.c.job_id == job_id)
        .order_by(t.instances.c.sop_instance_uid)
    )
    return [Instance(**row) for row in connection.execute(query).mappings()]


def earlier_of_study(connection: sa.Connection, job: Job) -> int:
    """Count the jobs of the same study that were made before this one, of all streams."""
    c = t.jobs.c
    query = sa.select(sa.func.count()).where(c.study_uid == job.study_uid, c.id < job.id)
    return connection.scalar(query) or 0


def steps_of(connection: sa.Connection, job_id: int) -> list[Step]:
    """List the steps of all attempts, in order."""
    c = t.job_steps.c
    query = (
        sa.select(c.attempt, c.name, c.started_at, c.ended_at, c.detail)
        .where(c.job_id == job_id)
        .order_by(c.id)
    )
    return [Step(*row) for row in connection.execute(query)]


def queued(connection: sa.Connection) -> list[Queued]:
    """List every queued job in the order in which it is to be rung, the deferred ones too."""
    c = t.jobs.c
    rows = connection.execute(
        sa.select(c.id, c.ae_title, c.priority, c.attempt, c.not_before)
        .where(c.state == JobState.QUEUED)
        .order_by(c.priority.desc(), c.id)
    )
    return [Queued(*row) for row in rows]


def running_jobs(connection: sa.Connection) -> list[Job]:
    """List what runs now."""
    rows = connection.execute(sa.select(t.jobs).where(t.jobs.c.state == JobState.RUNNING))
    return [job_of(row) for row in rows]


def ended_unrun(connection: sa.Connection, since: datetime) -> list[int]:
    """List the jobs that ended since then without an attempt, such as those cancelled in time."""
    c = t.jobs.c
    rows = connection.scalars(
        sa.select(c.id)
        .where(c.state.in_(list(ENDED)), c.attempt == 0, c.ended_at >= since)
        .order_by(c.id)
    )
    return list(rows)


def same_input(
    connection: sa.Connection, ae_title: str, study_uid: str, input_digest: str
) -> Job | None:
    """Find the newest job of this stream over the very same input that waits, runs or was good."""
    c = t.jobs.c
    row = connection.execute(
        sa.select(t.jobs)
        .where(
            c.ae_title == ae_title,
            c.study_uid == study_uid,
            c.input_digest == input_digest,
            c.state.in_([JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED, JobState.PARTIAL]),
            c.superseded_by.is_(None),
        )
        .order_by(c.id.desc())
        .limit(1)
    ).first()
    return job_of(row) if row else None


def has_its_results(connection: sa.Connection, job: Job) -> bool:
    """Say whether everything that a job made is still in the store."""
    made = sa.select(sa.func.count()).where(t.instances.c.made_by_job == job.id)
    return (connection.scalar(made) or 0) >= job.result_count


def unrouted_jobs(connection: sa.Connection) -> list[Job]:
    """List the ended jobs that the router has not looked at and that nobody holds."""
    c = t.jobs.c
    ended = [JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED]
    rows = connection.execute(
        sa.select(t.jobs)
        .where(c.state.in_(ended), c.routed_at.is_(None), c.is_held.is_(False))
        .order_by(c.id)
    )
    return [job_of(row) for row in rows]


def _studies_with(text: str) -> sa.Select[tuple[str]]:
    s = t.studies.c
    start = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return sa.select(s.study_uid).where(
        sa.or_(
            s.patient_name.ilike(start, escape="\\"),
            s.patient_id.ilike(start, escape="\\"),
            s.accession_number.ilike(start, escape="\\"),
            s.study_uid == text,
        )
    )
