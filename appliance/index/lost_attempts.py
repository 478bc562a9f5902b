"""Attempts whose worker died or fell silent: put back, so that the job goes again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance import ids
from appliance.errors import LeaseLost
from appliance.index import attempts, job_list
from appliance.index.database import Database
from appliance.index.jobs import Job


@dataclass(frozen=True, slots=True)
class PutBack:
    """One attempt that was put back: the job as it ran, its state now, and why, in a sentence."""

    job: Job
    state: str
    reason: str


def requeue_lost(
    db: Database, max_attempts: int, now: datetime, *, trusts_leases: bool = True
) -> list[PutBack]:
    """Put back what runs under a dead worker of this host, or past its lease.

    The attempt counts, so that a job that kills its worker does not go on for ever.
    `trusts_leases` is False for a while after the clock jumped: then every lease has
    run out, and living workers must have the time to renew theirs.
    """
    with db.read() as connection:
        running = job_list.running_jobs(connection)
    done = []
    for job in running:
        reason = _why_lost(job, now, trusts_leases)
        if not reason:
            continue
        try:
            state = attempts.requeue(
                db, job, now, reason=reason, counts=True, max_attempts=max_attempts
            )
        except LeaseLost:  # somebody else was faster
            continue
        done.append(PutBack(job, state, reason))
    return done


def is_dead_process(name: str) -> bool:
    """Say whether this `ids.ProcessName` was of this host and is gone."""
    try:
        return not ids.parse_process(name).is_alive()
    except ValueError:  # written by a version with other names: its lease tells
        return False


def _why_lost(job: Job, now: datetime, trusts_leases: bool) -> str:
    if is_dead_process(job.worker):
        return "Its worker died."
    if not trusts_leases:
        return ""
    if job.lease_until is None or job.lease_until < now:
        return "Its worker was silent for so long that its lease ran out."
    return ""
