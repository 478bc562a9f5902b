"""Ended jobs of which nobody knows whether their results were sent, and how they go after all.

Their rows were taken from their records, and the index that had their deliveries is gone.
The router does not send them by itself: that might be the work of years, once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from appliance.amounts import count
from appliance.errors import JobError
from appliance.index import events, jobs
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.states import JobState

COMMAND = "brookbox deliveries route-again"
# What the note of such a job begins with: it is found by that.
_UNKNOWN = "The index was made again from the files: what was sent of it is not known."
_WITH_RESULTS = (JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED)


def note_of(job_id: int) -> str:
    """Say in the routing note of a job that nobody knows, and how it is sent after all."""
    return f"{_UNKNOWN} To send it by the rules of today: {COMMAND} {job_id}"


def unknown_jobs(connection: sa.Connection, since: datetime | None = None) -> list[int]:
    """List the jobs that ended since then, have results, and may not have been sent.

    Not one that a newer job superseded: its results are not missed by anybody.
    """
    c = t.jobs.c
    sent = sa.select(t.deliveries.c.id).where(t.deliveries.c.job_id == c.id)
    query = sa.select(c.id).where(
        c.routing_note.startswith(_UNKNOWN, autoescape=True),
        c.result_count > 0,
        c.superseded_by.is_(None),
        ~sa.exists(sent),
    )
    if since is not None:
        query = query.where(c.ended_at >= since)
    return list(connection.scalars(query.order_by(c.id)))


def sentence(number: int) -> str:
    """Say of so many jobs that nobody knows, and what to type."""
    return (
        f"Of {count(number, 'job')} nobody knows whether the results were sent: they are not sent "
        f"now. To send them by the rules of today: {COMMAND} --unknown"
    )


def route_again(db: Database, job_ids: Sequence[int], who: str, now: datetime) -> None:
    """Let the router look at ended jobs once more: all of them, or none.

    What a delivery of theirs has already is not sent twice.  Raises JobError when one has
    not ended, was cancelled or superseded, NotFound when there is none.
    """
    with db.write() as connection:
        for job_id in job_ids:
            job = jobs.get(connection, job_id, to_move=True)
            _check(job)
            connection.execute(
                sa.update(t.jobs)
                .where(t.jobs.c.id == job_id)
                .values(routed_at=None, routing_note="", is_held=False)
            )
            sentence = f"{who} had the results of job {job_id} routed again."
            facts: dict[str, Any] = {"who": who, "study_uid": job.study_uid, "job_id": job_id}
            events.append(connection, "job routed again", sentence, now, **facts)


def _check(job: jobs.Job) -> None:
    if job.superseded_by is not None:
        raise JobError(
            f"job {job.id} was superseded by job {job.superseded_by}, whose results are sent",
            remedy=f"{COMMAND} {job.superseded_by}",
        )
    if job.state not in _WITH_RESULTS:
        raise JobError(
            f"job {job.id} is {job.state}: it has nothing to be sent",
            remedy=f"brookbox jobs show {job.id}",
        )
