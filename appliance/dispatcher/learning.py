"""What is learned of each calling AE title: how long a silence of it may last.

It starts at the setting.  After 20 arrivals without a late instance it falls
with each further one, step by step, to 5 s; a late instance doubles it, up to
120 s.
"""

from __future__ import annotations

from datetime import timedelta

from appliance.index import arrivals
from appliance.index.arrivals import ClosedArrival, OpenArrival
from appliance.index.database import Database
from appliance.settings import Completeness

_SHORTEST_SECONDS = 5.0
_LONGEST_SECONDS = 120.0
_CLEAN_BEFORE_LESS = 20
_STEP = 0.8


def learn(
    db: Database,
    arrival: OpenArrival,
    digest: str,
    before: ClosedArrival | None,
    rules: Completeness,
) -> None:
    """Keep what a closed arrival says of its senders.

    `digest` is that of its input, `before` the arrival of the same study that was
    closed before it.  A study that came again unchanged says nothing.
    """
    if before is not None and before.digest == digest:
        return
    late = before is not None and is_late(arrival, before, rules)
    known = arrivals.learned_quiet(db)
    callers = arrival.calling_ae_titles
    if before is not None and late:
        callers = callers & before.calling_ae_titles
    with db.write() as connection:
        for caller in callers:
            old = known.get(caller, (rules.quiet_seconds, 0))
            new = after_late_instance(old, rules) if late else after_clean_arrival(old, rules)
            arrivals.learn_quiet(connection, caller, *new)


def is_late(arrival: OpenArrival, before: ClosedArrival, rules: Completeness) -> bool:
    """Say whether an arrival is what came too late for the one before it.

    One that was closed as possibly incomplete says nothing of its sender's silences;
    nor does what comes hours later, such as a reading or another reconstruction.
    """
    soon = timedelta(minutes=rules.longest_wait_minutes)
    return not before.incomplete and arrival.opened_at - before.closed_at < soon


def after_clean_arrival(known: tuple[float, int], rules: Completeness) -> tuple[float, int]:
    """Give silence in seconds, and arrivals since the last late instance, after one more."""
    quiet_seconds, clean = known
    shortest = min(_SHORTEST_SECONDS, rules.quiet_seconds)
    if clean >= _CLEAN_BEFORE_LESS:
        quiet_seconds = max(quiet_seconds * _STEP, shortest)
    return quiet_seconds, clean + 1


def after_late_instance(known: tuple[float, int], rules: Completeness) -> tuple[float, int]:
    """Give the same after an instance that came when its study was closed already."""
    return min(known[0] * 2, max(_LONGEST_SECONDS, rules.quiet_seconds)), 0
