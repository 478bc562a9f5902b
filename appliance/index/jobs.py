"""The moves of a job: queued → running → succeeded | partial | failed | cancelled.

Each move is a compare-and-set named for it.  create: dispatcher and web; cancel,
retry, release: web and cli.  The moves of a running attempt are in `index.attempts`;
`index.job_list` is the read side.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from appliance.amounts import count
from appliance.errors import JobError, NotFound
from appliance.index import events
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.going import check_not_going
from appliance.index.states import ACTIVE, ENDED, JobState

_THE_DISPATCHER = "the dispatcher"  # cancels what a job over more of the study supersedes


@dataclass(frozen=True, slots=True)
class Job:
    """One study in one stream; the columns of `schema.jobs` say what each field is."""

    id: int
    ae_title: str
    stream_name: str
    stream_version: str
    study_uid: str
    series_uid: str
    state: str
    priority: int
    calling_ae_title: str
    address: str
    input_digest: str
    input_count: int
    result_seed: str
    incomplete: bool
    supersedes: int | None
    superseded_by: int | None
    run_again_of: int | None
    first_instance_at: datetime
    last_instance_at: datetime
    created_at: datetime
    not_before: datetime | None
    wait_reason: str
    started_at: datetime | None
    ended_at: datetime | None
    attempt: int
    tries: int
    worker: str
    lease_until: datetime | None
    gpu_devices: str
    cancel_requested: bool
    cancelled_by: str
    executor: str
    image: str
    image_id: str
    exit_code: int | None
    outcome: str
    reason: str
    remedy: str
    message: str
    peak_memory_bytes: int | None
    progress_done: int | None
    progress_of: int | None
    progress_step: str
    result_count: int
    is_held: bool
    routed_at: datetime | None
    routing_note: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a job is made of; `inputs` are SOP Instance UIDs."""

    ae_title: str
    study_uid: str
    series_uid: str
    priority: int
    calling_ae_title: str
    address: str
    input_digest: str
    inputs: tuple[str, ...]
    result_seed: str
    incomplete: bool
    first_instance_at: datetime
    last_instance_at: datetime
    stream_name: str = ""
    stream_version: str = ""
    run_again_of: int | None = None


def job_of(row: Any) -> Job:
    """Make a Job of a row of `schema.jobs`."""
    mapping = row._mapping
    return Job(**{field.name: mapping[field.name] for field in fields(Job)})


def get(connection: sa.Connection, job_id: int, *, to_move: bool = False) -> Job:
    """Look a job up; NotFound when there is none.

    `to_move`: nobody else moves it before this transaction ends.
    """
    query = sa.select(t.jobs).where(t.jobs.c.id == job_id)
    row = connection.execute(query.with_for_update() if to_move else query).first()
    if row is None:
        raise NotFound(f"there is no job {job_id}", remedy="brookbox jobs list")
    return job_of(row)


def create(connection: sa.Connection, new: NewJob, now: datetime) -> int:
    """Queue a job, and supersede the older ones of its stream and study; give its id.

    Raises StudyGoing when the study is being erased.
    """
    values = {name: getattr(new, name) for name in NewJob.__slots__ if name != "inputs"}
    result = connection.execute(
        sa.insert(t.jobs).values(
            **values, state=JobState.QUEUED, created_at=now, input_count=len(new.inputs)
        )
    )
    assert result.inserted_primary_key is not None
    job_id: int = result.inserted_primary_key[0]
    for start in range(0, len(new.inputs), 1000):
        connection.execute(
            sa.insert(t.job_inputs),
            [
                {"job_id": job_id, "sop_instance_uid": uid}
                for uid in new.inputs[start : start + 1000]
            ],
        )
    if new.run_again_of is None:
        _supersede(connection, job_id, new, now)
    check_not_going(connection, new.study_uid)
    return job_id


def cancel(db: Database, job_id: int, who: str, now: datetime) -> str:
    """Cancel a job: at once when it waits; when it runs its worker is told.

    `who` is kept with the job; the first who asked stays.  Gives the state it is in
    then.  Raises JobError when it has ended, NotFound when unknown.
    """
    with db.write() as connection:
        job = get(connection, job_id, to_move=True)
        if job.state == JobState.QUEUED:
            connection.execute(
                sa.update(t.jobs)
                .where(t.jobs.c.id == job_id)
                .values(
                    state=JobState.CANCELLED,
                    ended_at=now,
                    reason=cancelled_because(who),
                    cancelled_by=who,
                )
            )
            tell_end(connection, job_id, who, now)
            return JobState.CANCELLED
        if job.state == JobState.RUNNING:
            connection.execute(
                sa.update(t.jobs)
                .where(t.jobs.c.id == job_id, t.jobs.c.cancel_requested.is_(False))
                .values(cancel_requested=True, cancelled_by=who)
            )
            return JobState.RUNNING
        again = "retry" if job.state in (JobState.FAILED, JobState.CANCELLED) else "run-again"
        raise JobError(
            f"job {job_id} has ended already: it is {job.state}",
            remedy=f"to run it again: brookbox jobs {again} {job_id}",
        )


def cancelled_because(who: str) -> str:
    """Give the reason of a cancelled job, as a sentence."""
    return f"It was cancelled by {who}." if who else "It was cancelled."


def retry(db: Database, job_id: int, now: datetime) -> Job:
    """Queue a failed or cancelled job again, with the same input and the same result UIDs.

    Raises JobError when it has not failed: `index.jobs.create` with `run_again_of`
    makes a new job of a succeeded one.
    """
    with db.write() as connection:
        job = get(connection, job_id, to_move=True)
        if job.state not in (JobState.FAILED, JobState.CANCELLED):
            raise JobError(
                f"job {job_id} is {job.state}, only a failed or cancelled one can be retried",
                remedy=f"to make a new job of the same input: brookbox jobs run-again {job_id}",
            )
        connection.execute(
            sa.update(t.jobs)
            .where(t.jobs.c.id == job_id)
            .values(
                state=JobState.QUEUED,
                tries=0,
                ended_at=None,
                not_before=None,
                outcome="",
                reason="",
                remedy="",
                message="",
                cancel_requested=False,
                cancelled_by="",
                routed_at=None,
                routing_note="",
                is_held=False,
                wait_reason="",
            )
        )
        check_not_going(connection, job.study_uid)
        return get(connection, job_id)


def release(db: Database, job_id: int) -> None:
    """Let the results of a held job be sent; JobError when it is not held."""
    with db.write() as connection:
        result = connection.execute(
            sa.update(t.jobs).where(t.jobs.c.id == job_id, t.jobs.c.is_held).values(is_held=False)
        )
        if result.rowcount == 0:
            get(connection, job_id)
            raise JobError(f"job {job_id} is not held", remedy=f"brookbox jobs show {job_id}")


def came_whole(connection: sa.Connection, job_id: int, arrival_id: int) -> bool:
    """Clear the doubt about a job of a possibly incomplete study, and let its results be sent.

    The arrival was whole and made no job of its own, its input being the same.  Nothing
    happens, and false is given, when there was no doubt or when the arrival lacks a part
    of the input: the rest may then be what is missing.
    """
    i, r = t.job_inputs.c, t.receptions.c
    came = sa.select(r.sop_instance_uid).where(r.arrival_id == arrival_id, ~r.is_conflict)
    lacks = sa.exists().where(i.job_id == job_id, i.sop_instance_uid.not_in(came))
    result = connection.execute(
        sa.update(t.jobs)
        .where(t.jobs.c.id == job_id, t.jobs.c.incomplete, ~lacks)
        .values(incomplete=False, is_held=False)
    )
    return result.rowcount > 0


def set_wait_reason(db: Database, ae_title: str, reason: str, now: datetime) -> None:
    """Say why the queued jobs of a stream wait; "" when nothing hinders them.

    A job that pauses before its next attempt has a reason of its own until then.
    """
    with db.write() as connection:
        connection.execute(
            sa.update(t.jobs)
            .where(
                t.jobs.c.ae_title == ae_title,
                t.jobs.c.state == JobState.QUEUED,
                sa.or_(t.jobs.c.not_before.is_(None), t.jobs.c.not_before <= now),
                t.jobs.c.wait_reason != reason,
            )
            .values(wait_reason=reason)
        )


def tell_end(connection: sa.Connection, job_id: int, who: str, now: datetime) -> None:
    """Append the event of a job's end to the audit trail, in the move's own transaction."""
    job = get(connection, job_id)
    events.append(
        connection,
        f"job {job.state}",
        end_sentence(job.id, job.ae_title, job.state, job.result_count, job.reason),
        now,
        who=who,
        study_uid=job.study_uid,
        job_id=job.id,
        attempt=job.attempt,
    )


def end_sentence(job_id: int, ae_title: str, state: str, results: int, reason: str) -> str:
    """Say how a job ended, as the audit trail does."""
    why = f": {reason}" if reason else "."
    return f"Job {job_id} of {ae_title} {state} with {count(results, 'result')}{why}"


def cancel_superseded(connection: sa.Connection, job_id: int, by: int, now: datetime) -> None:
    """Cancel a queued job that another one makes needless."""
    c = t.jobs.c
    reason = f"It was superseded by job {by}, which has more of the study."
    connection.execute(
        sa.update(t.jobs)
        .where(c.id == job_id, c.state == JobState.QUEUED)
        .values(state=JobState.CANCELLED, ended_at=now, reason=reason, cancelled_by=_THE_DISPATCHER)
    )
    tell_end(connection, job_id, _THE_DISPATCHER, now)


def _supersede(connection: sa.Connection, job_id: int, new: NewJob, now: datetime) -> None:
    c = t.jobs.c
    older = (
        c.ae_title == new.ae_title,
        c.study_uid == new.study_uid,
        c.series_uid == new.series_uid,
        c.id < job_id,
    )
    last = connection.scalar(sa.select(sa.func.max(c.id)).where(*older))
    if last is None:
        return
    connection.execute(sa.update(t.jobs).where(c.id == job_id).values(supersedes=last))
    connection.execute(
        sa.update(t.jobs)
        .where(*older, c.superseded_by.is_(None), c.state.in_([*ACTIVE, *ENDED]))
        .values(superseded_by=job_id, is_held=False)
    )
    queued = sa.select(c.id).where(*older, c.state == JobState.QUEUED).with_for_update()
    for one in list(connection.scalars(queued)):
        cancel_superseded(connection, one, job_id, now)
