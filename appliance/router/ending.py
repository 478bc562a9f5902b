"""How one attempt of a delivery ends: delivered, due again later, or given up.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.dicom import statuses
from appliance.errors import AssociationFailed
from appliance.index.deliveries import Delivery, Sent
from appliance.router.decoding import WAS_DECODED
from appliance.settings import Router

DELIVERED, RETRY, GIVE_UP = "delivered", "retry", "give up"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known at the end of an attempt.

    `instances` are those of the whole delivery as they are now; `went` counts what this
    attempt brought over; `problem` broke it, `is_stopped` says that the node stops.
    """

    peer: str
    instances: Sequence[Sent]
    went: int
    problem: AssociationFailed | None = None
    is_stopped: bool = False


@dataclass(frozen=True, slots=True)
class End:
    """The move to make, and its words; `due_at` only for RETRY."""

    move: str
    message: str
    remedy: str = ""
    due_at: datetime | None = None


def decide(
    delivery: Delivery, attempt: Attempt, router: Router, now: datetime, chance: float
) -> End:
    """Judge an attempt; `chance`, 0 to 1, spreads the retries of many deliveries.

    What was refused for good is not tried again; what else is left is, until it is too
    old or the destination refuses this node for good.
    """
    waiting = _in_state(attempt, "waiting")
    failed = _in_state(attempt, "failed")
    command = f"brookbox deliveries resend {delivery.id}"
    resend = f"mend that, then: {command}"
    if not waiting and not failed:
        return End(DELIVERED, _sent_sentence(attempt))
    if not waiting:
        return End(GIVE_UP, _left_sentence(failed, attempt, "refused for good"), resend)
    if attempt.is_stopped:
        return End(RETRY, "The node was stopped; it goes on at its next start.", due_at=now)
    why = str(attempt.problem or _left_sentence(waiting, attempt, "not taken"))
    remedy = attempt.problem.remedy if attempt.problem else ""
    age = now - delivery.created_at
    give_up_after = timedelta(days=router.give_up_days)
    if attempt.problem and attempt.problem.is_permanent:
        return End(GIVE_UP, _given_up(why, attempt, len(waiting)), f"{remedy}; then: {command}")
    if age >= give_up_after:
        tries = f"It was tried {delivery.attempt} times in {router.give_up_days:g} days."
        return End(GIVE_UP, f"{_given_up(why, attempt, len(waiting))} {tries}", resend)
    due_at = now + min(
        pause(delivery.attempt, age, attempt.went > 0, router, chance), give_up_after - age
    )
    left = f"{len(waiting)} of {len(attempt.instances)} instances wait"
    return End(RETRY, f"{why} {left} for {due_at:%Y-%m-%d %H:%M:%S} UTC.", remedy, due_at)


def pause(
    attempt: int, age: timedelta, has_progress: bool, router: Router, chance: float
) -> timedelta:
    """Say how long to wait after attempt 1, 2, …: doubling, ±20 %.

    It never is much longer than the delivery is old, so that one that a person sends
    again begins anew; after an attempt that brought something over it is short.
    """
    first = router.first_retry_seconds
    doubled = first * 2.0 ** min(attempt - 1, 30)
    seconds = min(doubled, max(first, 2 * age.total_seconds()), router.longest_retry_minutes * 60)
    if has_progress:
        seconds = first
    return timedelta(seconds=seconds * (0.8 + 0.4 * chance))


def words_of(sent: Sent) -> str:
    """Say why an instance is where it is, without the comment of the peer.

    The comment may name a patient; it stays with the instance, and out of logs.
    """
    return sent.message if sent.status is None else f"{statuses.store_status(sent.status)}."


def _in_state(attempt: Attempt, state: str) -> list[Sent]:
    return [one for one in attempt.instances if one.state == state]


def _sent_sentence(attempt: Attempt) -> str:
    count = len(attempt.instances)
    said = f"{_instances(count)} sent to {attempt.peer}."
    if decoded := sum(1 for one in attempt.instances if WAS_DECODED in one.message):
        which = "1 of them was" if decoded == 1 else f"{decoded} of them were"
        said += f" {which} decoded, since it does not take the transfer syntax."
    if warnings := _in_state(attempt, "warning"):
        said += f" {len(warnings)} with a warning: {words_of(warnings[0])}"
    return said


def _left_sentence(left: Sequence[Sent], attempt: Attempt, what: str) -> str:
    reasons = dict.fromkeys(words_of(one) for one in left if one.message or one.status is not None)
    some = " ".join(list(reasons)[:3])
    of_all = f"{len(left)} of {_instances(len(attempt.instances))}"
    return f"{of_all} {what} by {attempt.peer}: {some}"


def _given_up(why: str, attempt: Attempt, waiting: int) -> str:
    return f"{why} {waiting} of {_instances(len(attempt.instances))} not sent."


def _instances(count: int) -> str:
    return f"{count} instance was" if count == 1 else f"{count} instances were"
