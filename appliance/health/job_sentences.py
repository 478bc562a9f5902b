"""What an ended job says of itself, for command line and pages: each thing once."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.index.deliveries import Delivery
from appliance.index.jobs import Job
from appliance.index.states import DeliveryState

_STOPS = " .!?"


def why_and_message(reason: str, message: str) -> tuple[str, str]:
    """Give a job's reason, and its stream's message if that says more; each may be "".

    The reason of a partial job quotes what its stream says.
    """
    reason, message = reason.strip(), message.strip()
    if message.strip(_STOPS) in reason:
        return reason, ""
    if reason.strip(_STOPS) in message:
        return message, ""
    return reason, message


def said(reason: str, message: str) -> str:
    """Give both as one text; "" when there is nothing to say."""
    return " ".join(part for part in why_and_message(reason, message) if part)


def fate_when_superseded(job: Job, deliveries: Sequence[Delivery]) -> str:
    """Say what became of the results of a superseded job, given its deliveries."""
    if not job.result_count:
        return "It has no results."
    results = [one for one in deliveries if one.what == "output"]
    for state, were in (
        (DeliveryState.DELIVERED, "had been sent already"),
        (DeliveryState.SENDING, "are being sent just now"),
    ):
        if places := [one.destination for one in results if one.state == state]:
            return f"Its own results {were}, to {', '.join(places)}."
    return "Its own results are not sent."
