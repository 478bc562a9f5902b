"""What becomes of an attempt by how its run ended and by what the run said: pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.index.attempts import Finish
from appliance.index.jobs import Job
from appliance.worker.executor import Ended
from appliance.worker.progress import Said

# A run that its machine failed, or that the worker's stop ended, goes again without
# being counted, so that a night without Docker fails nobody's job.  Past so many such
# attempts they count: something is wrong that trying again does not mend.
UNCOUNTED_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class PutBack:
    """The job goes again, after a pause if the machine failed it."""

    reason: str
    counts: bool
    after_pause: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A person cancelled the job."""


@dataclass(frozen=True, slots=True)
class Done:
    """The run is over for good; its results count only when `takes_results`."""

    end: Finish
    takes_results: bool


def decide(job: Job, ended: Ended, said: Said) -> PutBack | Cancelled | Done:
    """Say what becomes of an attempt.

    A failed job has no results, whatever stands in its OUTPUT: half of a result must
    not be sent, and a retry makes the same instances.
    """
    if ended.how == "cancelled":
        return Cancelled()
    if ended.how in ("stopped", "unavailable"):
        reason = ended.sentence or "Its worker was stopped; it goes again."
        return put_back(job, reason, after_pause=ended.how == "unavailable")
    facts = Finish(
        outcome="failed",
        reason=ended.sentence,
        remedy=ended.remedy,
        message=said.message,
        exit_code=ended.exit_code,
        peak_memory_bytes=ended.peak_memory_bytes,
    )
    if ended.how != "exited" or ended.exit_code != 0:
        return Done(_with(facts, "failed", facts.reason or _exit_words(ended)), False)
    if said.outcome == "failed":
        return Done(_with(facts, "failed", f"It says that it failed: {_said(said)}"), False)
    if said.outcome == "partial":
        return Done(
            _with(facts, "partial", f"It says that it did only a part: {_said(said)}"), True
        )
    return Done(_with(facts, "success", said.doubt), True)


def put_back(job: Job, reason: str, *, after_pause: bool) -> PutBack:
    """Put an attempt back without counting it, unless that happened too often already."""
    uncounted = job.attempt - job.tries
    return PutBack(reason, counts=uncounted >= UNCOUNTED_ATTEMPTS, after_pause=after_pause)


def _with(facts: Finish, outcome: str, reason: str) -> Finish:
    failed = outcome == "failed"
    return Finish(
        outcome=outcome,
        reason=reason,
        remedy=facts.remedy or ("read its log; then retry it" if failed else ""),
        message=facts.message,
        exit_code=facts.exit_code,
        peak_memory_bytes=facts.peak_memory_bytes,
    )


def _exit_words(ended: Ended) -> str:
    return f"It ended with exit code {ended.exit_code}; 0 is success."


def _said(said: Said) -> str:
    text = said.message or "it gives no reason"
    return text if text.endswith((".", "!", "?")) else f"{text}."
