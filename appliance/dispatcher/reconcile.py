"""Putting right what died: receivers' associations, workers' jobs; and why a job waits."""

from __future__ import annotations

from datetime import datetime, timedelta

from appliance import logs
from appliance.index import arrivals, job_list, jobs, lanes
from appliance.index.database import Database
from appliance.index.lanes import Lane
from appliance.index.lost_attempts import is_dead_process, requeue_lost
from appliance.streams.catalog import Streams

LANE_SILENCE = timedelta(seconds=30)
_JUMP_SECONDS = 1.0  # below every silence that ends a study


def close_dead_associations(db: Database, now: datetime) -> int:
    """Close the associations of receiver processes of this host that died; how many."""
    dead = set(filter(is_dead_process, arrivals.receiving_processes(db)))
    if not dead:
        return 0
    closed = arrivals.close_associations_of(db, dead, now)
    logs.get().warning("associations of a dead receiver were closed", associations=closed)
    return closed


class Clock:
    """Notices that the wall clock jumped: it was set, or the machine slept.

    `even_since` is the moment of the wall clock from which on it was seen to go evenly: that
    of the first look, or of the one that noticed the last jump.  A silence counts from there
    on, since what the clock says of the time before tells nothing about how long it lasted.
    """

    def __init__(self, now: datetime, steady: float) -> None:
        self.even_since = now
        self._wall_less_steady = now.timestamp() - steady
        self._jumped_at: float | None = None

    def look(self, now: datetime, steady: float) -> None:
        """Compare both clocks, which were read at one moment; `steady` is monotonic."""
        difference = now.timestamp() - steady
        by, self._wall_less_steady = difference - self._wall_less_steady, difference
        if abs(by) > _JUMP_SECONDS:
            logs.get().warning("the clock jumped", seconds=round(by))
            self.even_since, self._jumped_at = now, steady

    def trusts_leases(self, steady: float, lease_seconds: float) -> bool:
        """Say whether there was no jump for as long as a lease: who lives has renewed his."""
        return self._jumped_at is None or steady - self._jumped_at >= lease_seconds


def put_lost_jobs_back(
    db: Database, max_attempts: int, now: datetime, *, trusts_leases: bool
) -> int:
    """Put back the jobs whose worker died, or was silent past its lease; how many."""
    lost = requeue_lost(db, max_attempts, now, trusts_leases=trusts_leases)
    for one in lost:
        logs.get().warning(
            "job put back",
            job=one.job.id,
            attempt=one.job.attempt,
            worker=one.job.worker,
            said=one.reason,
            state=one.state,
        )
    with db.read() as connection:
        dead = {worker for worker in lanes.workers(connection) if is_dead_process(worker)}
    if dead:
        lanes.remove_workers(db, sorted(dead))
    return len(lost)


def tell_why_jobs_wait(db: Database, streams: Streams, now: datetime, outage: str = "") -> None:
    """Write beside the queued jobs of each stream what hinders them, if anything does.

    `outage` is a sentence while gearmand is away.
    """
    with db.read() as connection:
        waiting = {job.ae_title for job in job_list.queued(connection)}
        fresh = lanes.lanes_since(connection, now - LANE_SILENCE) if waiting else []
    for ae_title in sorted(waiting):
        own = [
            lane for lane in fresh if lane.ae_title == ae_title and not is_dead_process(lane.worker)
        ]
        why = _why(ae_title, own, streams, bool(fresh)) or outage
        jobs.set_wait_reason(db, ae_title, why, now)


def _why(ae_title: str, own: list[Lane], streams: Streams, has_workers: bool) -> str:
    # Asked first: a worker's lanes live on for a while after their stream has gone.
    if streams.find(ae_title) is None:
        return (
            f"No stream has the AE title {ae_title} any more: put its folder back, "
            "or cancel the job."
        )
    if any(lane.is_open for lane in own):
        return ""
    if own:
        return own[0].why_not
    if has_workers:
        return "No worker serves this stream yet."
    return "No worker is running."
