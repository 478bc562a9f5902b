"""One sentence that says how a job stands: the first thing that a person reads of it."""

from __future__ import annotations

from datetime import datetime

from appliance.health.job_sentences import why_and_message
from appliance.index.jobs import Job
from appliance.index.states import JobState
from web.wording import count, lasted, lower_first

_STEP_NAMES = {
    "prepare": "preparing its input",
    "run": "running",
    "import results": "keeping its results",
}


def headline(
    job: Job, now: datetime, *, before: int = 0, usual_seconds: float | None = None
) -> str:
    """Say how the job stands, in one sentence.

    `before` is how many jobs of its stream go first while it waits, `usual_seconds`
    how long the stream usually takes.
    """
    match job.state:
        case JobState.QUEUED:
            return _waiting(job, now, before)
        case JobState.RUNNING:
            return _running(job, now, usual_seconds)
        case JobState.SUCCEEDED:
            return _said(f"Succeeded after {run_time(job, now)}", job, _results(job))
        case JobState.PARTIAL:
            said = f"Only a part was made after {run_time(job, now)}"
            return _said(said, job, _results(job))
        case JobState.FAILED:
            return _said(f"Failed after {run_time(job, now)}", job, "it gave no reason.")
    return job.reason or "It was cancelled."


def run_time(job: Job, now: datetime) -> str:
    """Say how long the last attempt took, or takes; "" when none has begun."""
    if job.started_at is None:
        return lasted((job.ended_at or now) - job.created_at)
    return lasted((job.ended_at or now) - job.started_at)


def step_name(name: str) -> str:
    """Say a worker's step in words."""
    return _STEP_NAMES.get(name, name)


def _waiting(job: Job, now: datetime, before: int) -> str:
    so_far = f"Waiting for {lasted(now - job.created_at)}"
    if job.wait_reason:
        again = ""
        if job.not_before and job.not_before > now:
            again = f" It is tried again in {lasted(job.not_before - now)}."
        return f"{so_far}: {_stop(lower_first(job.wait_reason))}{again}"
    if before:
        return f"{so_far}: {count(before, 'job')} of this stream before it."
    return f"{so_far}: it is the next one of its stream."


def _running(job: Job, now: datetime, usual_seconds: float | None) -> str:
    parts = [f"Running for {run_time(job, now)}"]
    if job.progress_step:
        parts.append(job.progress_step)
    if job.progress_of:
        parts.append(f"{job.progress_done or 0} of {job.progress_of}")
    sentence = ", ".join(parts) + "."
    if job.cancel_requested:
        by = f" by {job.cancelled_by}" if job.cancelled_by else ""
        return f"{sentence} It is being cancelled{by}."
    if usual_seconds is not None and not job.progress_of:
        return f"{sentence} This stream usually takes {lasted(usual_seconds)}."
    return sentence


def _said(start: str, job: Job, otherwise: str) -> str:
    why = next(filter(None, why_and_message(job.reason, job.message)), "")
    return f"{start}: {_stop(lower_first(why)) if why else otherwise}"


def _results(job: Job) -> str:
    return f"{count(job.result_count, 'result')}." if job.result_count else "it made no results."


def _stop(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else sentence + "."
