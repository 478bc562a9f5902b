"""When a study has arrived whole, and why: pure functions of what is known and of the clock.

An arrival is complete when no association is open for it and nothing came for
its quiet time.  An open association that is silent for `idle_seconds` counts as
closed here.  What trickles is closed after `longest_wait_minutes`.  All of this
is counted on the wall clock, and therefore from the moment on at which it was
seen to go evenly (`counted_from`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from appliance.index.arrivals import Bringer, OpenArrival
from appliance.index.states import Ending
from appliance.settings import Completeness


@dataclass(frozen=True, slots=True)
class Quiet:
    """The silence that ends an arrival; `is_fixed` when a person wrote the number."""

    after_release: timedelta
    after_abort: timedelta
    is_fixed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an arrival is complete, or until when it must wait at least, and why.

    `reason` is a sentence for a person.  `incomplete` says that something may be
    missing: then results wait for a person before they are sent.
    """

    is_complete: bool
    wait_until: datetime
    reason: str
    incomplete: bool = False


def quiet_of(
    callers: frozenset[str],
    rules: Completeness,
    stream_quiet_seconds: float | None,
    learned: Mapping[str, tuple[float, int]],
) -> Quiet:
    """Say which silence ends an arrival of these calling AE titles.

    A number of info.json, or of the settings for a sender, is taken as it is, the
    longest if there are several.  Otherwise it is what was learned of the senders,
    and after an abort or a lost connection the setting for that.
    """
    fixed = [rules.senders[caller] for caller in callers if caller in rules.senders]
    if stream_quiet_seconds is not None:
        fixed.append(stream_quiet_seconds)
    if fixed:
        same = timedelta(seconds=max(fixed))
        return Quiet(same, same, is_fixed=True)
    known = [learned[caller][0] for caller in callers if rules.learn and caller in learned]
    if len(known) < max(len(callers), 1):
        known.append(rules.quiet_seconds)
    after_abort = max(rules.quiet_after_abort_seconds, *known)
    return Quiet(timedelta(seconds=max(known)), timedelta(seconds=after_abort), is_fixed=False)


def counted_from(arrival: OpenArrival, since: datetime) -> OpenArrival:
    """Give an arrival as if what lies before `since` had happened then.

    The clock jumped at that moment, or was not looked at before it: an instance of a moment ago
    may bear a time of last year, and its study is not silent for that.
    """
    associations = tuple(
        replace(one, last_activity_at=max(one.last_activity_at, since))
        if one.closed_at is None
        else one
        for one in arrival.associations
    )
    return replace(
        arrival,
        opened_at=max(arrival.opened_at, since),
        last_instance_at=max(arrival.last_instance_at, since),
        associations=associations,
    )


def judge(arrival: OpenArrival, rules: Completeness, quiet: Quiet, now: datetime) -> Verdict:
    """Say whether an arrival is complete, or until when to wait unless something happens."""
    idle = timedelta(seconds=rules.idle_seconds)
    still_open = [one for one in arrival.associations if one.closed_at is None]
    held_until = max((one.last_activity_at + idle for one in still_open), default=now)
    cut_off = _cut_off(arrival.associations)
    silence = quiet.after_abort if cut_off else quiet.after_release
    earliest = max(arrival.last_instance_at + silence, held_until)
    if earliest <= now:
        ended = _why_complete(silence, cut_off, idle if still_open else None)
        return Verdict(True, now, ended, incomplete=cut_off is not None)
    deadline = arrival.opened_at + timedelta(minutes=rules.longest_wait_minutes)
    if deadline <= now:
        reason = (
            f"It was closed while it was still coming in, {_words(now - arrival.opened_at)} "
            "after its first instance; something may be missing."
        )
        return Verdict(True, now, reason, incomplete=True)
    waiting = _why_waiting(silence, cut_off, is_held=held_until > now)
    return Verdict(False, min(earliest, deadline), waiting)


def _cut_off(associations: Sequence[Bringer]) -> Bringer | None:
    """Find one that ended otherwise than released, and was not made good.

    It is made good by one from the same sender that was opened after the other's
    last sign of life and was released.  (Not after it was closed: a lost connection,
    or a dead receiver process, is noticed long after the sender has come again.)
    """
    for one in associations:
        if one.ending in (None, Ending.RELEASED):
            continue
        if not any(_makes_good(other, one) for other in associations):
            return one
    return None


def _makes_good(other: Bringer, one: Bringer) -> bool:
    return (
        other.ending == Ending.RELEASED
        and other.calling_ae_title == one.calling_ae_title
        and other.opened_at >= one.last_activity_at
    )


def _why_complete(silence: timedelta, cut_off: Bringer | None, idle: timedelta | None) -> str:
    if cut_off is not None and cut_off.ending == Ending.UNKNOWN:
        return (
            "It was taken in again from its files, which do not tell how its association ended; "
            "something may be missing."
        )
    if cut_off is not None and cut_off.ending == Ending.PROCESS_DIED:
        return (
            f"Nothing came for {_words(silence)} after the node's own receiving process ended "
            "in the middle of an association, which was not the sender's doing; "
            "something may be missing."
        )
    if cut_off is not None:
        return (
            f"Nothing came for {_words(silence)} after an association was {cut_off.ending}; "
            "something may be missing."
        )
    if idle is not None:
        return (
            f"Nothing came for {_words(silence)}; the association that is still open "
            f"was silent for {_words(idle)}."
        )
    return f"Nothing came for {_words(silence)}."


def _why_waiting(silence: timedelta, cut_off: Bringer | None, *, is_held: bool) -> str:
    if is_held:
        return "An association that brings it is open."
    if cut_off is not None and cut_off.ending == Ending.UNKNOWN:
        return f"It waits for {_words(silence)} of silence: how an association ended is not known."
    if cut_off is not None and cut_off.ending == Ending.PROCESS_DIED:
        return (
            f"It waits for {_words(silence)} of silence: the node's own receiving process ended "
            "in the middle of an association."
        )
    if cut_off is not None:
        return f"It waits for {_words(silence)} of silence: an association was {cut_off.ending}."
    return f"It waits for {_words(silence)} of silence."


def _words(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds:g} s"
