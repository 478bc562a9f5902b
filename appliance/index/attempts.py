"""The moves of a running attempt: claimed, kept by its lease, ended, put back.

An attempt's number fences it: a move of an attempt that is not the current one
raises LeaseLost.  claim_next, renew, finish: worker; requeue: worker, dispatcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from appliance.errors import LeaseLost
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.jobs import Job, cancelled_because, get, tell_end
from appliance.index.states import OUTCOME_STATES, JobState


@dataclass(frozen=True, slots=True)
class Finish:
    """How an attempt ended, in words and figures."""

    outcome: str  # success | partial | failed
    reason: str = ""
    remedy: str = ""
    message: str = ""
    exit_code: int | None = None
    peak_memory_bytes: int | None = None
    result_count: int = 0
    is_held: bool = False


def claim_next(
    db: Database,
    ae_title: str,
    *,
    lanes: int,
    worker: str,
    lease: timedelta,
    now: datetime,
    gpus: int = 0,
    devices: Sequence[str] = (),
) -> Job | None:
    """Move this stream's next queued job to running; None when there is none to claim.

    Next is the highest priority, then the oldest.  No more than `lanes` jobs of the
    stream run on the whole node, whoever claims: the transaction counts them.  A job
    that needs `gpus` gets devices of this host that no running job of it holds.
    """
    host = worker.split("/")[0]
    with db.write() as connection:
        db.lock(connection, f"gpus {host}" if gpus else f"claim {ae_title}")
        if gpus:
            db.lock(connection, f"claim {ae_title}")
        free = _free_devices(connection, host, devices) if gpus else []
        if _running(connection, ae_title) >= lanes or len(free) < gpus:
            return None
        job_id = _lock_next(connection, ae_title, now)
        if job_id is None:
            return None
        connection.execute(
            sa.update(t.jobs)
            .where(t.jobs.c.id == job_id, t.jobs.c.state == JobState.QUEUED)
            .values(
                state=JobState.RUNNING,
                worker=worker,
                lease_until=now + lease,
                started_at=now,
                ended_at=None,
                attempt=t.jobs.c.attempt + 1,
                tries=t.jobs.c.tries + 1,
                wait_reason="",
                reason="",
                remedy="",
                gpu_devices=",".join(free[:gpus]),
                progress_done=None,
                progress_of=None,
                progress_step="",
                exit_code=None,
            )
        )
        return get(connection, job_id)


def renew(db: Database, job: Job, lease: timedelta, now: datetime) -> bool:
    """Keep the lease of a running attempt; True when a person asked to cancel it.

    Raises LeaseLost when another attempt is the current one.
    """
    with db.write() as connection:
        result = connection.execute(
            sa.update(t.jobs).where(*_current(job)).values(lease_until=now + lease)
        )
        if result.rowcount == 0:
            raise _lost(job)
        asked = sa.select(t.jobs.c.cancel_requested).where(t.jobs.c.id == job.id)
        return bool(connection.scalar(asked))


def note_run(db: Database, job: Job, **facts: object) -> None:
    """Keep facts of the running attempt, such as executor, image_id and progress_done.

    Raises LeaseLost when another attempt is the current one.
    """
    with db.write() as connection:
        result = connection.execute(sa.update(t.jobs).where(*_current(job)).values(**facts))
        if result.rowcount == 0:
            raise _lost(job)


def begin_step(db: Database, job: Job, name: str, now: datetime) -> None:
    """Note that a step of the attempt begins; the one before it ends."""
    with db.write() as connection:
        _close_steps(connection, job.id, now)
        connection.execute(
            sa.insert(t.job_steps).values(
                job_id=job.id, attempt=job.attempt, name=name, started_at=now, detail=""
            )
        )


def finish(connection: sa.Connection, job: Job, end: Finish, now: datetime) -> None:
    """Move a running attempt to its end; LeaseLost when it is not the current one any more.

    The caller registers the results in the same transaction.
    """
    state = OUTCOME_STATES[end.outcome]
    values = {name: getattr(end, name) for name in Finish.__slots__}
    # A job that failed or made nothing has no results to wait for a person, a superseded one
    # none to be sent, and a study that came again meanwhile, whole, leaves no doubt.
    if end.is_held:
        values["is_held"] = (
            sa.and_(t.jobs.c.superseded_by.is_(None), t.jobs.c.incomplete)
            if end.outcome != "failed" and end.result_count
            else False
        )
    result = connection.execute(
        sa.update(t.jobs)
        .where(*_current(job))
        .values(
            **values,
            state=state,
            ended_at=now,
            lease_until=None,
            gpu_devices="",
            cancel_requested=False,
            cancelled_by="",  # it had ended before that could stop it
        )
    )
    if result.rowcount == 0:
        raise _lost(job)
    _close_steps(connection, job.id, now)
    tell_end(connection, job.id, job.worker, now)


def finish_cancelled(connection: sa.Connection, job: Job, now: datetime) -> None:
    """Move a running attempt to cancelled, after its run was stopped; the reason says for whom."""
    who = _asked_to_cancel(connection, job) or ""
    result = connection.execute(
        sa.update(t.jobs)
        .where(*_current(job))
        .values(
            state=JobState.CANCELLED,
            ended_at=now,
            lease_until=None,
            gpu_devices="",
            cancel_requested=False,
            reason=cancelled_because(who),
        )
    )
    if result.rowcount == 0:
        raise _lost(job)
    _close_steps(connection, job.id, now)
    tell_end(connection, job.id, who, now)


def requeue(
    db: Database,
    job: Job,
    now: datetime,
    *,
    reason: str,
    counts: bool,
    max_attempts: int,
    not_before: datetime | None = None,
) -> str:
    """Put a running attempt back into the queue; give the job's new state.

    An attempt that counts and was the last one allowed fails the job instead, so a
    job that kills its worker does not loop.  LeaseLost when it is not current.
    """
    with db.write() as connection:
        tries = job.tries if counts else job.tries - 1
        who = _asked_to_cancel(connection, job)
        if who is not None:
            values: dict[str, object] = {
                "state": JobState.CANCELLED,
                "ended_at": now,
                "cancel_requested": False,
                "reason": cancelled_because(who),
            }
        elif counts and tries >= max_attempts:
            values = {
                "state": JobState.FAILED,
                "ended_at": now,
                "outcome": "failed",
                "reason": f"It was given up after {tries} attempts. The last one: {reason}",
                "remedy": f"read its log, then: brookbox jobs retry {job.id}",
            }
        else:
            values = {"state": JobState.QUEUED, "wait_reason": reason, "not_before": not_before}
        result = connection.execute(
            sa.update(t.jobs)
            .where(*_current(job))
            .values(**values, tries=max(tries, 0), lease_until=None, gpu_devices="", worker="")
        )
        if result.rowcount == 0:
            raise _lost(job)
        _close_steps(connection, job.id, now)
        if values["state"] != JobState.QUEUED:
            tell_end(connection, job.id, who or job.worker, now)
        return str(values["state"])


def _current(job: Job) -> tuple[Any, ...]:
    c = t.jobs.c
    return c.id == job.id, c.attempt == job.attempt, c.state == JobState.RUNNING


def _asked_to_cancel(connection: sa.Connection, job: Job) -> str | None:
    """Name who asked, lately perhaps, to cancel this job; None when nobody did."""
    asked = sa.select(t.jobs.c.cancelled_by).where(t.jobs.c.id == job.id, t.jobs.c.cancel_requested)
    return connection.scalar(asked)


def _lost(job: Job) -> LeaseLost:
    return LeaseLost(
        f"attempt {job.attempt} of job {job.id} is not the current one any more",
        remedy=f"nothing; see brookbox jobs show {job.id}",
    )


def _running(connection: sa.Connection, ae_title: str) -> int:
    query = sa.select(sa.func.count()).where(
        t.jobs.c.state == JobState.RUNNING, t.jobs.c.ae_title == ae_title
    )
    return connection.scalar(query) or 0


def _lock_next(connection: sa.Connection, ae_title: str, now: datetime) -> int | None:
    """Find the next job and keep others from moving it; one that they just moved is passed over."""
    c = t.jobs.c
    while (job_id := connection.scalar(_next_queued(ae_title, now))) is not None:
        still = sa.select(c.id).where(c.id == job_id, c.state == JobState.QUEUED)
        if connection.scalar(still.with_for_update()) is not None:
            return int(job_id)
    return None


def _next_queued(ae_title: str, now: datetime) -> sa.Select[Any]:
    c = t.jobs.c
    return (
        sa.select(c.id)
        .where(
            c.state == JobState.QUEUED,
            c.ae_title == ae_title,
            sa.or_(c.not_before.is_(None), c.not_before <= now),
        )
        .order_by(c.priority.desc(), c.id)
        .limit(1)
    )


def _free_devices(connection: sa.Connection, host: str, devices: Sequence[str]) -> list[str]:
    query = sa.select(t.jobs.c.gpu_devices).where(
        t.jobs.c.state == JobState.RUNNING, t.jobs.c.worker.like(f"{host}/%")
    )
    held = {one for text in connection.scalars(query) for one in text.split(",")}
    return [device for device in devices if device not in held]


def _close_steps(connection: sa.Connection, job_id: int, now: datetime) -> None:
    c = t.job_steps.c
    connection.execute(
        sa.update(t.job_steps).where(c.job_id == job_id, c.ended_at.is_(None)).values(ended_at=now)
    )
