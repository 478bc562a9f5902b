"""Figures that pages show: how many ended, how long a stream takes, where results went."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.jobs import Job
from appliance.index.states import DeliveryState, JobState


def ended_since(connection: sa.Connection, since: datetime) -> dict[str, int]:
    """Count the jobs that ended since then, by state; every state is there."""
    query = (
        sa.select(t.jobs.c.state, sa.func.count())
        .where(t.jobs.c.ended_at >= since)
        .group_by(t.jobs.c.state)
    )
    counts = {str(state): 0 for state in JobState}
    counts.update(dict(connection.execute(query).all()))
    return counts


def usual_seconds(connection: sa.Connection, ae_title: str) -> float | None:
    """Give the median run of the stream's last 20 good jobs; None when there was none."""
    c = t.jobs.c
    query = (
        sa.select(c.started_at, c.ended_at)
        .where(c.ae_title == ae_title, c.state.in_([JobState.SUCCEEDED, JobState.PARTIAL]))
        .order_by(c.id.desc())
        .limit(20)
    )
    lasted = [
        (ended - started).total_seconds()
        for started, ended in connection.execute(query)
        if started and ended
    ]
    return statistics.median(lasted) if lasted else None


def queued_before(connection: sa.Connection, job: Job) -> int:
    """Count the queued jobs of the same stream that go before this one."""
    c = t.jobs.c
    sooner = sa.or_(c.priority > job.priority, sa.and_(c.priority == job.priority, c.id < job.id))
    query = sa.select(sa.func.count()).where(
        c.ae_title == job.ae_title, c.state == JobState.QUEUED, sooner
    )
    return connection.scalar(query) or 0


def delivery_states(
    connection: sa.Connection, job_ids: Sequence[int]
) -> dict[int, list[tuple[str, str]]]:
    """Map jobs to the (destination, state) of each of their deliveries."""
    d = t.deliveries.c
    query = (
        sa.select(d.job_id, d.destination, d.state)
        .where(d.job_id.in_(list(job_ids)))
        .order_by(d.id)
    )
    states: dict[int, list[tuple[str, str]]] = {}
    for job_id, destination, state in connection.execute(query):
        states.setdefault(job_id, []).append((destination, state))
    return states


def count_deliveries(connection: sa.Connection) -> dict[str, int]:
    """Count deliveries by state; every state is there."""
    query = sa.select(t.deliveries.c.state, sa.func.count()).group_by(t.deliveries.c.state)
    counts = {str(state): 0 for state in DeliveryState}
    counts.update(dict(connection.execute(query).all()))
    return counts
