"""The steps of a job from its first image to its last delivery, as bars on one line of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.index.deliveries import Delivery
from appliance.index.job_list import Step
from appliance.index.jobs import Job
from appliance.index.states import DeliveryState, JobState
from web.headline import step_name

WIDTH = 1000.0
_NARROWEST = 4.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One step; `x` and `width` are in units of a line that is 1000 long.

    `kind` is work, wait, good, bad or now, and says the colour.
    """

    name: str
    detail: str
    kind: str
    started_at: datetime
    ended_at: datetime | None
    length: timedelta
    x: float = 0.0
    width: float = 0.0


def timeline(
    job: Job, steps: Sequence[Step], deliveries: Sequence[Delivery], closed_why: str, now: datetime
) -> list[Bar]:
    """Lay out everything that happened to the job, in order; `closed_why` ended its arrival."""
    bars = _of_arrival(job, closed_why, now) if job.run_again_of is None else []
    bars += _of_queue(job, steps, now)
    bars += [_of_step(job, step, now) for step in steps]
    bars += [_of_delivery(one, now) for one in deliveries]
    return _laid_out(bars, now)


def _bar(
    name: str, kind: str, start: datetime, end: datetime | None, now: datetime, detail: str = ""
) -> Bar:
    return Bar(name, detail, kind, start, end, max((end or now) - start, timedelta()))


def _of_arrival(job: Job, closed_why: str, now: datetime) -> list[Bar]:
    return [
        _bar("Received", "work", job.first_instance_at, job.last_instance_at, now),
        _bar(
            "Waited until the study was complete",
            "wait", job.last_instance_at, job.created_at, now, closed_why,
        ),
    ]


def _of_queue(job: Job, steps: Sequence[Step], now: datetime) -> list[Bar]:
    first = min((step.started_at for step in steps), default=job.started_at)
    end = first or (None if job.state == JobState.QUEUED else job.ended_at)
    return [_bar("Waited for its turn", "wait", job.created_at, end, now, job.wait_reason)]


def _of_step(job: Job, step: Step, now: datetime) -> Bar:
    name = step_name(step.name)
    name = name[:1].upper() + name[1:]
    if job.attempt > 1:
        name = f"Attempt {step.attempt}: {name[:1].lower() + name[1:]}"
    is_last = step.attempt == job.attempt and step.ended_at == job.ended_at
    kind = "now" if step.ended_at is None else "work"
    if is_last and job.state == JobState.FAILED:
        kind = "bad"
    return _bar(name, kind, step.started_at, step.ended_at, now, step.detail)


def _of_delivery(delivery: Delivery, now: datetime) -> Bar:
    kinds = {
        DeliveryState.DELIVERED: "good", DeliveryState.GAVE_UP: "bad", DeliveryState.SENDING: "now",
    }
    kind = kinds.get(DeliveryState(delivery.state), "wait")
    name = f"Sent to {delivery.destination}"
    return _bar(name, kind, delivery.created_at, delivery.ended_at, now, delivery.message)


def _laid_out(bars: Sequence[Bar], now: datetime) -> list[Bar]:
    if not bars:
        return []
    begin = min(bar.started_at for bar in bars)
    whole = (max(bar.ended_at or now for bar in bars) - begin).total_seconds() or 1.0
    placed = []
    for bar in bars:
        width = max(bar.length.total_seconds() / whole * WIDTH, _NARROWEST)
        x = min((bar.started_at - begin).total_seconds() / whole * WIDTH, WIDTH - width)
        placed.append(
            Bar(
                bar.name, bar.detail, bar.kind, bar.started_at, bar.ended_at, bar.length,
                round(max(x, 0.0), 1), round(min(width, WIDTH), 1),
            )
        )
    return placed
