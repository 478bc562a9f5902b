"""The states of arrivals, jobs and deliveries; pages and API show the same words."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """queued → running → succeeded | partial | failed | cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED, JobState.CANCELLED)
ACTIVE = (JobState.QUEUED, JobState.RUNNING)

OUTCOME_STATES = {
    "success": JobState.SUCCEEDED,
    "partial": JobState.PARTIAL,
    "failed": JobState.FAILED,
}


class DeliveryState(StrEnum):
    """due → sending → delivered | due again later | gave_up."""

    DUE = "due"
    SENDING = "sending"
    DELIVERED = "delivered"
    GAVE_UP = "gave_up"


class Ending(StrEnum):
    """How an association ended; unknown when it is told of only by the files it brought.

    `process died`: that of ours which received it, whatever the sender did.
    """

    RELEASED = "released"
    ABORTED = "aborted"
    LOST = "lost"
    UNKNOWN = "unknown"
    PROCESS_DIED = "process died"


PRIORITIES = {"high": 1, "normal": 0, "low": -1}
