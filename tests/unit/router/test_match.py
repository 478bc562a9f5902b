"""Rules are applied in order, and send exactly what they say to whom they say."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from appliance.router.match import Ended, Match, Plan, Sender, match
from appliance.router.rules import BACK_TO_SENDER, Destination, Routing, Rule, TagTest

JOB = Ended("MONTAGE", "CT1", "success", ("o1", "o2"), ("i1",), (Sender("CT1", "10.0.0.5"),))
TAGS = {
    ("o1", 1): ("CT",),
    ("o2", 1): ("MR",),
    ("o1", 2): ("HEAD",),
    ("i1", 1): ("CT",),
    ("o2", 3): ("DERIVED", "SECONDARY"),
}


def destination(name: str, ae_title: str = "", host: str = "10.0.0.9") -> Destination:
    return Destination(name, ae_title or name.upper(), host, 104, "BROOKBOX")


def plan(*rules: Rule, job: Ended = JOB, known: tuple[Destination, ...] = ()) -> Plan:
    names = {one.name: one for one in (*known, destination("a"), destination("b"))}
    return match(
        job,
        Routing(names, rules),
        lambda uid, tag: TAGS.get((uid, tag), ("",)),
        lambda one, address: one.host == address,
    )


def test(tag: int, pattern: str) -> TagTest:
    return TagTest(tag, str(tag), re.compile(pattern))


test.__test__ = False  # type: ignore[attr-defined]


def sent(what: Plan) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.destination, one.what, one.instances) for one in what.matches]


@pytest.mark.parametrize(
    ("facts", "matches"),
    [
        ({}, True),
        ({"called": "MONTAGE"}, True),
        ({"called": "MONT"}, False),
        ({"called": "montage"}, False),
        ({"called": "(?i)montage"}, True),
        ({"called": "ECHO|MON.*"}, True),
        ({"calling": "CT[0-9]"}, True),
        ({"calling": "MR.*"}, False),
        ({"outcome": ("success",)}, True),
        ({"outcome": ("partial", "failed")}, False),
        ({"enabled": False}, False),
    ],
)
def test_a_rule_matches_when_all_that_it_says_is_so(
    facts: dict[str, object], matches: bool
) -> None:
    compiled = {
        key: re.compile(str(value)) if key in ("called", "calling") else value
        for key, value in facts.items()
    }
    found = plan(Rule("r", ("a",), **compiled))  # type: ignore[arg-type]
    assert sent(found) == ([("a", "output", ("o1", "o2"))] if matches else [])


@pytest.mark.parametrize(
    ("tags", "instances"),
    [
        (((test(1, "CT"),),), ("o1",)),
        (((test(1, "CT|MR"),),), ("o1", "o2")),
        (((test(1, "CT"), test(2, "HEAD")),), ("o1",)),
        (((test(1, "MR"), test(2, "HEAD")),), ()),
        (((test(1, "MR"),), (test(2, "HEAD"),)), ("o1", "o2")),
        (((test(3, "SECONDARY"),),), ("o2",)),
        (((test(9, "x"),),), ()),
        (((test(9, ".*"),),), ("o1", "o2")),
    ],
)
def test_a_rule_with_tags_sends_only_the_instances_that_have_them(
    tags: tuple[tuple[TagTest, ...], ...], instances: tuple[str, ...]
) -> None:
    found = plan(Rule("r", ("a",), tags=tags))
    assert [one.instances for one in found.matches] == ([instances] if instances else [])


def test_a_rule_whose_tags_no_instance_has_does_not_stop_the_others() -> None:
    strict = Rule("strict", ("a",), tags=((test(1, "XA"),),), stop=True)
    assert sent(plan(strict, Rule("all", ("b",)))) == [("b", "output", ("o1", "o2"))]


def test_stop_ends_the_scan_only_when_its_rule_matched() -> None:
    other = Rule("other", ("a",), called=re.compile("ECHO"), stop=True)
    first = Rule("first", ("a",), stop=True)
    assert [one.rule for one in plan(other, first, Rule("later", ("b",))).matches] == ["first"]


def test_the_input_is_sent_when_the_rule_says_so() -> None:
    found = plan(Rule("r", ("a", "b"), what="input"))
    assert sent(found) == [("a", "input", ("i1",)), ("b", "input", ("i1",))]


def test_two_rules_to_one_destination_make_one_delivery_of_both() -> None:
    ct = Rule("ct", ("a",), tags=((test(1, "CT"),),))
    mr = Rule("mr", ("a",), tags=((test(1, "MR"),),))
    again = Rule("again", ("a",))
    assert plan(ct, mr, again).matches == (Match("a", "output", "ct, mr", ("o1", "o2")),)


def test_a_rule_with_nothing_to_send_says_so() -> None:
    empty = replace(JOB, outputs=(), outcome="failed")
    found = plan(Rule("r", ("a",), outcome=("failed",)), job=empty)
    assert found.matches == ()
    assert found.notes == ("Rule r matches, but there is no output to send.",)


@pytest.mark.parametrize(
    ("which", "expected"), [("first", ["ct1"]), ("last", ["ct2"]), ("all", ["ct1", "ct2"])]
)
def test_back_to_the_sender_finds_the_known_destination(which: str, expected: list[str]) -> None:
    senders = (Sender("CT1", "10.0.0.1"), Sender("CT2", "10.0.0.2"))
    known = (destination("ct1", host="10.0.0.1"), destination("ct2", host="10.0.0.2"))
    rule = Rule("r", (BACK_TO_SENDER,), senders=which)
    found = plan(rule, job=replace(JOB, senders=senders), known=known)
    assert [one.destination for one in found.matches] == expected
    assert found.notes == ()


@pytest.mark.parametrize(
    ("senders", "says"),
    [
        ((Sender("CT9", "10.0.0.5"),), "CT9 at 10.0.0.5 is no destination: add it"),
        ((Sender("CT1", "10.0.0.5"),), "has the AE title of destination ct1, but not its host"),
        ((Sender("", "10.0.0.5"),), "came by upload"),
        ((), "nobody is known to have sent"),
    ],
)
def test_an_unknown_sender_gets_nothing_and_the_note_says_why(
    senders: tuple[Sender, ...], says: str
) -> None:
    known = (destination("ct1", host="10.0.0.1"),)
    rule = Rule("r", (BACK_TO_SENDER,))
    found = plan(rule, job=replace(JOB, senders=senders), known=known)
    assert found.matches == ()
    assert says in found.notes[0]


def test_no_rule_makes_no_delivery() -> None:
    assert plan() == Plan()
