"""When a study has arrived whole: a table of what senders do, played against a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.dispatcher.completeness import Quiet, Verdict, counted_from, judge, quiet_of
from appliance.dispatcher.learning import after_clean_arrival, after_late_instance, is_late
from appliance.index.arrivals import Bringer, ClosedArrival, OpenArrival
from appliance.settings import Completeness

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RULES = Completeness()
QUIET = Quiet(timedelta(seconds=30), timedelta(seconds=300), is_fixed=False)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def brought(
    opened: float, active: float, closed: float | None, ending: str | None, calling: str = "CT1"
) -> Bringer:
    closed_at = at(closed) if closed is not None else None
    return Bringer(calling, at(opened), at(active), closed_at, ending)


def arrival(last: float, associations: Sequence[Bringer]) -> OpenArrival:
    return OpenArrival(
        id=1,
        called_ae_title="ECHO",
        study_uid="1.2",
        series_uid="",
        opened_at=START,
        last_instance_at=at(last),
        open_associations=0,
        endings=frozenset(),
        calling_ae_titles=frozenset(one.calling_ae_title for one in associations),
        associations=tuple(associations),
    )


def ask(last: float, now: float, *associations: Bringer, rules: Completeness = RULES) -> Verdict:
    return judge(arrival(last, associations), rules, QUIET, at(now))


RELEASED = brought(0, 5, 5, "released")
ABORTED = brought(0, 5, 5, "aborted")
LOST = brought(0, 5, 125, "lost")
UNKNOWN = brought(0, 5, 125, "unknown")
DIED = brought(0, 5, 9, "process died")
OPEN = brought(0, 5, None, None)


@pytest.mark.parametrize(
    ("associations", "now", "is_complete", "wait_until", "incomplete"),
    [
        ([RELEASED], 34.9, False, 35, False),
        ([RELEASED], 35, True, 35, False),
        ([ABORTED], 35, False, 305, False),
        ([ABORTED], 305, True, 305, True),
        ([LOST], 304, False, 305, False),
        ([LOST], 305, True, 305, True),
        # the index was made again from the files, which do not tell how it ended
        ([UNKNOWN], 304, False, 305, False),
        ([UNKNOWN], 305, True, 305, True),
        # our own process died: the sender may come again as after an abort
        ([DIED], 35, False, 305, False),
        ([DIED], 305, True, 305, True),
        ([DIED, brought(6, 9, 9, "released")], 35, True, 35, False),
        # open and busy until 20: nothing ends before it was silent for 30 s
        ([brought(0, 20, None, None)], 40, False, 50, False),
        # open and idle: counts as closed after 30 s of silence
        ([OPEN], 34.9, False, 35, False),
        ([OPEN], 35, True, 35, False),
        # two in parallel: the one that is open holds the study
        ([RELEASED, brought(1, 30, None, None)], 59, False, 60, False),
        ([RELEASED, brought(1, 5, 9, "released")], 35, True, 35, False),
        # aborted, then sent again and released: made good
        ([ABORTED, brought(6, 9, 9, "released")], 35, True, 35, False),
        # lost; the sender was back long before the loss was noticed: made good
        ([LOST, brought(15, 20, 20, "released")], 35, True, 35, False),
        # aborted, then aborted again
        ([ABORTED, brought(6, 9, 9, "aborted")], 35, False, 305, False),
        # one of two in parallel was aborted: nothing made that good
        ([ABORTED, brought(1, 5, 9, "released")], 35, False, 305, False),
        # another sender's release does not make it good
        ([ABORTED, brought(6, 9, 9, "released", "MR2")], 35, False, 305, False),
        # no association is known (an upload)
        ([], 35, True, 35, False),
        ([], 34, False, 35, False),
    ],
)
def test_the_table_of_endings(
    associations: list[Bringer],
    now: float,
    is_complete: bool,
    wait_until: float,
    incomplete: bool,
) -> None:
    verdict = ask(5, now, *associations)
    assert (verdict.is_complete, verdict.incomplete) == (is_complete, incomplete)
    assert verdict.wait_until == at(now if is_complete else wait_until)
    assert verdict.reason.endswith(".")


def test_the_end_of_our_own_process_is_not_said_to_be_the_senders() -> None:
    for now in (35, 305):
        reason = ask(5, now, DIED).reason
        assert "the node's own receiving process ended" in reason and "aborted" not in reason


@pytest.mark.parametrize(
    ("association", "waits_seconds"),
    [(RELEASED, 30), (ABORTED, 300), (OPEN, 30), (brought(0, 20, None, None), 30)],
)
def test_ft_29_a_silence_is_counted_from_the_jump_of_the_clock_on(
    association: Bringer, waits_seconds: float
) -> None:
    year = 365 * 86400.0
    jumped = at(year)
    known = counted_from(arrival(5, [association]), jumped)
    early = judge(known, RULES, QUIET, at(year + waits_seconds - 0.1))
    assert not early.is_complete
    assert early.wait_until == at(year + waits_seconds)
    assert judge(known, RULES, QUIET, at(year + waits_seconds)).is_complete
    # What came after the jump counts as ever, and what ended before it has ended.
    assert counted_from(arrival(5, [association]), START).last_instance_at == at(5)
    assert known.associations[0].closed_at == association.closed_at


def test_nothing_is_made_up_of_an_association_that_only_its_files_tell_of() -> None:
    reason = ask(5, 305, UNKNOWN).reason
    assert "do not tell how its association ended" in reason and "may be missing" in reason
    assert "300" not in reason and "lost" not in reason
    assert "is not known" in ask(5, 100, UNKNOWN).reason


def played(instances: Sequence[float], associations: Sequence[Bringer], until: float) -> float:
    """Play a sender against the dispatcher: the second at which the study was closed first."""
    now = instances[0]
    while now < until:
        came = [second for second in instances if second <= now]
        seen = [
            one
            if one.closed_at is not None and one.closed_at <= at(now)
            else replace(
                one,
                closed_at=None,
                ending=None,
                last_activity_at=min(one.last_activity_at, at(now)),
            )
            for one in associations
            if one.opened_at <= at(now)
        ]
        if judge(arrival(came[-1], seen), RULES, QUIET, at(now)).is_complete:
            return now
        now += 0.5
    return until


def test_one_association_for_each_instance_with_four_seconds_between_is_one_arrival() -> None:
    instances = [4.0 * n for n in range(50)]
    associations = [brought(t, t + 0.1, t + 0.2, "released") for t in instances]
    assert played(instances, associations, 1000) == instances[-1] + 30


def test_an_association_that_stays_open_and_idle_is_one_arrival() -> None:
    instances = [0.0, 1.0, 2.0]
    assert played(instances, [brought(0, 2, None, None)], 1000) == 32


def test_two_parallel_associations_of_one_study_are_one_arrival() -> None:
    instances = [float(n) for n in range(0, 100, 2)]
    associations = [brought(0, 40, 40, "released"), brought(1, 98, 98.5, "released", "CT2")]
    assert played(instances, associations, 1000) == 98 + 30


def test_what_trickles_is_closed_after_the_longest_wait_and_may_be_incomplete() -> None:
    rules = Completeness(longest_wait_minutes=2)
    trickle = brought(0, 119, None, None)
    waiting = ask(119, 119, trickle, rules=rules)
    assert not waiting.is_complete
    assert waiting.wait_until == at(120)
    closed = ask(119, 120, trickle, rules=rules)
    assert closed.is_complete
    assert closed.incomplete
    assert "still coming in" in closed.reason


def test_a_study_that_was_whole_long_ago_is_not_called_a_trickle() -> None:
    verdict = ask(5, 10_000, RELEASED)
    assert verdict.is_complete
    assert not verdict.incomplete


def seconds(quiet: Quiet) -> tuple[float, float]:
    return quiet.after_release.total_seconds(), quiet.after_abort.total_seconds()


def test_the_quiet_time_comes_from_settings_learning_or_a_written_number() -> None:
    ct1, both = frozenset({"CT1"}), frozenset({"CT1", "MR2"})
    learned = {"CT1": (8.0, 25), "MR2": (60.0, 0)}
    assert seconds(quiet_of(ct1, RULES, None, {})) == (30, 300)
    assert seconds(quiet_of(ct1, RULES, None, learned)) == (8, 300)
    assert seconds(quiet_of(both, RULES, None, learned)) == (60, 300)
    assert seconds(quiet_of(both, RULES, None, {"CT1": (8.0, 25)})) == (30, 300)
    assert seconds(quiet_of(ct1, RULES, 2.0, learned)) == (2, 2)
    fixed = replace(RULES, senders={"CT1": 10.0})
    assert seconds(quiet_of(ct1, fixed, None, learned)) == (10, 10)
    assert seconds(quiet_of(ct1, fixed, 2.0, learned)) == (10, 10)
    assert quiet_of(ct1, fixed, None, {}).is_fixed
    assert seconds(quiet_of(ct1, replace(RULES, learn=False), None, learned)) == (30, 300)
    assert seconds(quiet_of(frozenset(), RULES, None, learned)) == (30, 300)


def test_a_sender_without_late_instances_is_trusted_more_and_more_down_to_5_s() -> None:
    known = (30.0, 0)
    for _ in range(20):
        known = after_clean_arrival(known, RULES)
    assert known == (30.0, 20)
    seen = []
    for _ in range(12):
        known = after_clean_arrival(known, RULES)
        seen.append(known[0])
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == 24
    assert seen[-1] == 5


def test_a_late_instance_doubles_the_silence_up_to_120_s_and_counts_anew() -> None:
    assert after_late_instance((5.0, 40), RULES) == (10, 0)
    known = (30.0, 3)
    for _ in range(5):
        known = after_late_instance(known, RULES)
    assert known == (120, 0)


def test_late_is_what_comes_soon_after_a_whole_arrival_was_closed() -> None:
    new = replace(arrival(700, [RELEASED]), opened_at=at(600))
    before = ClosedArrival(at(500), incomplete=False, digest="d", calling_ae_titles=frozenset())
    assert is_late(new, before, RULES)
    assert not is_late(new, replace(before, incomplete=True), RULES)
    assert not is_late(replace(new, opened_at=at(500 + 5401)), before, RULES)
