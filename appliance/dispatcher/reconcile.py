"""Putting right what died: receivers' associations, workers' jobs; and why a job waits."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from appliance import ids, logs
from appliance.errors import LeaseLost
from appliance.index import arrivals, attempts, job_list, jobs, lanes
from appliance.index.database import Database
from appliance.index.jobs import Job
from appliance.index.lanes import Lane
from appliance.streams.catalog import Streams

LANE_SILENCE = timedelta(seconds=30)


def close_dead_associations(db: Database, now: datetime) -> int:
    """Close the associations of receiver processes of this host that died; how many."""
    dead = _dead(arrivals.receiving_processes(db))
    if not dead:
        return 0
    closed = arrivals.close_associations_of(db, dead, now)
    logs.get().warning("associations of a dead receiver were closed", associations=closed)
    return closed


def requeue_lost(db: Database, max_attempts: int, now: datetime) -> int:
    """Put back the jobs whose worker died, or was silent past its lease; how many.

    The attempt counts, so that a job that kills its worker does not go on for ever.
    """
    with db.read() as connection:
        running = job_list.running_jobs(connection)
    dead = _dead({job.worker for job in running})
    lost = [job for job in running if job.worker in dead or _is_silent(job, now)]
    for job in lost:
        reason = (
            "Its worker died."
            if job.worker in dead
            else "Its worker was silent for so long that its lease ran out."
        )
        try:
            state = attempts.requeue(
                db, job, now, reason=reason, counts=True, max_attempts=max_attempts
            )
        except LeaseLost:
            continue
        logs.get().warning("job put back", job=job.id, attempt=job.attempt, said=reason, now=state)
    if dead:
        lanes.remove_workers(db, sorted(dead))
    return len(lost)


def tell_why_jobs_wait(db: Database, streams: Streams, now: datetime) -> None:
    """Write beside the queued jobs of each stream what hinders them, if anything does."""
    with db.read() as connection:
        waiting = {job.ae_title for job in job_list.queued(connection)}
        fresh = lanes.lanes_since(connection, now - LANE_SILENCE) if waiting else []
    for ae_title in sorted(waiting):
        own = [lane for lane in fresh if lane.ae_title == ae_title and not _is_dead(lane.worker)]
        jobs.set_wait_reason(db, ae_title, _why(ae_title, own, streams, bool(fresh)))


def _why(ae_title: str, own: list[Lane], streams: Streams, has_workers: bool) -> str:
    if any(lane.is_open for lane in own):
        return ""
    if own:
        return own[0].why_not
    if streams.find(ae_title) is None:
        return f"No stream has the AE title {ae_title} any more."
    if has_workers:
        return "No worker serves this stream yet."
    return "No worker is running."


def _is_silent(job: Job, now: datetime) -> bool:
    return job.lease_until is None or job.lease_until < now


def _dead(processes: Collection[str]) -> set[str]:
    return {process for process in processes if _is_dead(process)}


def _is_dead(process: str) -> bool:
    try:
        return not ids.parse_process(process).is_alive()
    except ValueError:  # written by a version with other names: its lease tells
        return False
