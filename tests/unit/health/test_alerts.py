"""The rules of the alerts: one boundary each, and nothing on a node that is well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.health.alerts import BrokenStream, Certificate, Clock, Facts, Trouble, judge
from appliance.index.troubles import Down, Waiting
from appliance.settings import Alerts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULES = Alerts(
    failures_in_a_row=3, destination_minutes=30, waiting_minutes=120, restarts_in_an_hour=3
)
A_DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def found(facts: Facts, rules: Alerts = RULES) -> list[tuple[str, str]]:
    """Give kind and subject of each; every one has a sentence and a remedy."""
    troubles = judge(facts, rules, NOW)
    assert all(one.sentence.endswith(".") and one.remedy for one in troubles), troubles
    return [(one.kind, one.subject) for one in troubles]


def only(facts: Facts) -> Trouble:
    [one] = judge(facts, RULES, NOW)
    return one


def broken(since: datetime, is_served: bool = False) -> BrokenStream:
    return BrokenStream("X", "It is not JSON.", "mend it", is_served, since)


def test_a_node_that_is_well_has_none() -> None:
    facts = Facts(
        failed_in_a_row={"MONTAGE": 2},
        down=[Down("pacs", NOW - 29 * MINUTE, 3)],
        waiting=[Waiting("MONTAGE", NOW - 119 * MINUTE, 1, "")],
        hindered=[Waiting("MONTAGE", NOW - 4 * MINUTE, 1, "No image")],
        broken=[broken(NOW - 119 * SECOND), broken(NOW)],
        backup_at=NOW - 2 * A_DAY,
        kept_since=NOW - 90 * A_DAY,
        restarts={"web": 2},
        clock=Clock(is_synchronised=True, up=A_DAY),
        certificates=[Certificate("tls.pem", NOW + 31 * A_DAY)],
    )
    assert found(Facts()) == [] and found(facts) == []


@pytest.mark.parametrize(
    ("facts", "kind", "subject"),
    [
        (Facts(refusals=[("It is full.", "make room")]), "disk", "data_root"),
        (Facts(full="Nothing may be removed."), "disk", "data_root"),
        (Facts(failed_in_a_row={"MONTAGE": 3}), "stream", "MONTAGE"),
        (Facts(broken=[broken(NOW - 2 * MINUTE)]), "broken", "X"),
        (Facts(broken=[broken(NOW + A_DAY)]), "broken", "X"),  # the clock was set back
        (Facts(broken=[broken(NOW - 2 * MINUTE, is_served=True)]), "doubled", "X"),
        (Facts(hindered=[Waiting("X", NOW - 5 * MINUTE, 7, "No image")]), "waiting", "X"),
        (Facts(down=[Down("pacs", NOW - 30 * MINUTE, 3)]), "destination", "pacs"),
        (Facts(given_up={"pacs": 1}), "delivery", "pacs"),
        (Facts(waiting=[Waiting("X", NOW - 120 * MINUTE, 7, "No lane")]), "waiting", "X"),
        (Facts(waiting=[Waiting("X", NOW - 120 * MINUTE, None, "")]), "waiting", "X"),
        (Facts(kept_since=NOW - 2 * A_DAY - MINUTE), "backup", "index"),
        (Facts(no_backup="There is no backup of this night."), "backup", "index"),
        (Facts(restarts={"web": 3}), "restarts", "web"),
        (Facts(held=1), "quarantine", "held"),
        (Facts(clock=Clock(jumped="It jumped.")), "clock", "jump"),
        (Facts(clock=Clock(is_synchronised=False, up=A_DAY)), "clock", "synchronisation"),
        (Facts(certificates=[Certificate("a.pem", NOW + 30 * A_DAY)]), "certificate", "a.pem"),
        (Facts(certificates=[Certificate("a.pem", None, "gone")]), "certificate", "a.pem"),
    ],
)
def test_each_rule_finds_its_own(facts: Facts, kind: str, subject: str) -> None:
    assert found(facts) == [(kind, subject)]


def test_a_disk_below_its_reserve_is_said_once() -> None:
    one = only(Facts(refusals=[("It is full.", "make room")], full="Nothing may be removed."))
    assert (one.sentence, one.remedy) == ("It is full.", "make room")


def test_an_old_backup_is_dated_and_one_that_never_was_is_not() -> None:
    kept = Facts(kept_since=NOW - 9 * A_DAY)
    assert "was never made" in only(kept).sentence
    assert "is of 2026-02-26 12:00 UTC" in only(replace(kept, backup_at=NOW - 3 * A_DAY)).sentence


def test_what_the_kernel_does_not_say_and_a_machine_that_has_just_started_are_no_doubt() -> None:
    assert found(Facts(clock=Clock(is_synchronised=None, up=A_DAY))) == []
    assert found(Facts(clock=Clock(is_synchronised=False, up=10 * MINUTE))) == []
    doubtful = Facts(clock=Clock(is_synchronised=False, up=A_DAY))
    assert found(doubtful, replace(RULES, clock=False)) == []


def test_a_span_is_said_as_roughly_as_a_person_needs_it() -> None:
    def said(span: timedelta) -> str:
        return only(Facts(down=[Down("pacs", NOW - span, 1)])).sentence

    assert "for 45 minutes;" in said(45 * MINUTE)
    assert "for 5 hours;" in said(330 * MINUTE)
    assert "for 8 days;" in said(8 * A_DAY)


def test_a_certificate_that_is_over_is_said_so() -> None:
    assert "expired on 2026-02-28" in only(
        Facts(certificates=[Certificate("a.pem", NOW - A_DAY)])
    ).sentence
