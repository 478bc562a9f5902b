"""Which rules apply to an ended job, and what they send where.

Pure: the job, the rules and the readers of tags and addresses are arguments.  The
same function serves the router and the dry run of the pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from appliance.router.rules import BACK_TO_SENDER, Destination, Routing, Rule, TagTest

ReadTag = Callable[[str, int], tuple[str, ...]]  # SOP Instance UID, tag → its values
SendsFrom = Callable[[Destination, str], bool]  # whether that address is its own


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent instances of the job's input; an upload has no AE title."""

    calling_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Ended:
    """An ended job, as the rules see it; `senders` in the order of their last instance."""

    called_ae_title: str
    calling_ae_title: str
    outcome: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    senders: tuple[Sender, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """Instances to send to one destination, and the rule that says so."""

    destination: str
    what: str
    rule: str
    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be delivered, in order; `notes` are sentences about what is not."""

    matches: tuple[Match, ...] = ()
    notes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()  # that matched


def match(job: Ended, routing: Routing, read_tag: ReadTag, sends_from: SendsFrom) -> Plan:
    """Apply the rules in order, down to the first that matches and says stop.

    A rule with tags matches when any instance does, and sends those that do.  Two
    rules that send the same kind to one destination make one delivery of both.
    """
    found: dict[tuple[str, str], Match] = {}
    notes: list[str] = []
    matching: list[str] = []
    for rule in routing.rules:
        instances = _applies(rule, job, read_tag)
        if instances is None:
            continue
        matching.append(rule.name)
        destinations = _destinations(rule, job, routing.destinations, sends_from, notes)
        if destinations and not instances:
            notes.append(f"Rule {rule.name} matches, but there is no {rule.what} to send.")
        for name in destinations if instances else ():
            _add(found, Match(name, rule.what, rule.name, instances))
        if rule.stop:
            break
    return Plan(tuple(found.values()), tuple(dict.fromkeys(notes)), tuple(matching))


def _applies(rule: Rule, job: Ended, read_tag: ReadTag) -> tuple[str, ...] | None:
    """Give what the rule sends of this job, perhaps nothing; None when it does not match."""
    if not rule.enabled or job.outcome not in rule.outcome:
        return None
    if not (_fits(rule.called, job.called_ae_title) and _fits(rule.calling, job.calling_ae_title)):
        return None
    instances = job.inputs if rule.what == "input" else job.outputs
    if not rule.tags:
        return instances
    return tuple(uid for uid in instances if _has_tags(uid, rule.tags, read_tag)) or None


def _fits(pattern: re.Pattern[str] | None, text: str) -> bool:
    return pattern is None or pattern.fullmatch(text) is not None


def _has_tags(uid: str, alternatives: Sequence[Sequence[TagTest]], read_tag: ReadTag) -> bool:
    return any(
        all(any(_fits(test.pattern, value) for value in read_tag(uid, test.tag)) for test in tests)
        for tests in alternatives
    )


def _destinations(
    rule: Rule,
    job: Ended,
    known: Mapping[str, Destination],
    sends_from: SendsFrom,
    notes: list[str],
) -> list[str]:
    names: list[str] = []
    for name in rule.to:
        if name == BACK_TO_SENDER:
            names += _senders(rule, job, known, sends_from, notes)
        elif name in known:
            names.append(name)
        else:
            notes.append(f"Rule {rule.name}: there is no destination {name}.")
    return list(dict.fromkeys(names))


def _senders(
    rule: Rule,
    job: Ended,
    known: Mapping[str, Destination],
    sends_from: SendsFrom,
    notes: list[str],
) -> list[str]:
    chosen = {"first": job.senders[:1], "last": job.senders[-1:], "all": job.senders}[rule.senders]
    if not chosen:
        notes.append(f"Rule {rule.name}: nobody is known to have sent this study.")
    names: list[str] = []
    for sender in chosen:
        name, why = _back_to(sender, known, sends_from)
        if name:
            names.append(name)
        else:
            notes.append(f"Rule {rule.name}: nothing goes back to the sender. {why}")
    return names


def _back_to(
    sender: Sender, known: Mapping[str, Destination], sends_from: SendsFrom
) -> tuple[str, str]:
    """Find the destination that a sender is; its name, or "" and why there is none."""
    if not sender.calling_ae_title:
        return "", "The study came by upload, not from a DICOM node."
    alike = [one for one in known.values() if one.ae_title == sender.calling_ae_title]
    for destination in alike:
        if sends_from(destination, sender.address):
            return destination.name, ""
    who = f"{sender.calling_ae_title} at {sender.address}"
    if alike:
        return "", (
            f"{who} has the AE title of destination {alike[0].name}, but not its host; if it is "
            f"that node, add the address to sends_from of {alike[0].name} in routing.yaml."
        )
    return "", f"{who} is no destination: add it to routing.yaml with its port."


def _add(found: dict[tuple[str, str], Match], new: Match) -> None:
    key = (new.destination, new.what)
    old = found.get(key)
    if old is None:
        found[key] = new
        return
    rule = old.rule if new.instances == old.instances else f"{old.rule}, {new.rule}"
    both = tuple(dict.fromkeys((*old.instances, *new.instances)))
    found[key] = Match(old.destination, old.what, rule, both)
