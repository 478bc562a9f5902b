"""When somebody has to look at the node: pure rules, functions of facts and the clock.

`alert_facts` gathers the facts; the housekeeper keeps what is found as alerts, tells of
them, and ends them when the rule no longer finds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appliance.amounts import count
from appliance.index.troubles import Down, Waiting
from appliance.settings import Alerts

# Somebody must act: data is refused, or work is lost.  The others are to be looked at today.
URGENT = frozenset({"disk", "stream", "broken", "delivery", "restarts"})
BACKUP_AGE = timedelta(days=2)
HELD_AGE = timedelta(days=1)
# A folder that is being put in or edited is broken for a while.
BROKEN_AGE = timedelta(minutes=2)
# Nothing of the stream runs until somebody acts: an image, Docker or a worker is missing.
HINDERED_AGE = timedelta(minutes=5)
_START_OF_A_CLOCK = timedelta(minutes=30)  # a machine that has just started is still asking


@dataclass(frozen=True, slots=True)
class Certificate:
    """A watched certificate: until when it holds, or why that cannot be read."""

    file: str
    expires_at: datetime | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Clock:
    """What is known of the clock: the kernel does not always say whether it is synchronised.

    `jumped` is the housekeeper's sentence while a jump keeps it from removing anything.
    """

    jumped: str = ""
    is_synchronised: bool | None = None
    up: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class BrokenStream:
    """A stream folder that cannot serve though it is to; `is_served`: another one does it.

    `subject` is its AE title, or its folder's name when it tells none.
    """

    subject: str
    sentence: str
    remedy: str
    is_served: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the rules look at."""

    refusals: Sequence[tuple[str, str]] = ()  # why the disk takes no studies, and what to do
    full: str = ""  # the housekeeper's sentence when nothing more may be removed
    failed_in_a_row: Mapping[str, int] = field(default_factory=dict)  # by stream
    broken: Sequence[BrokenStream] = ()
    down: Sequence[Down] = ()
    given_up: Mapping[str, int] = field(default_factory=dict)  # in a day, by destination
    waiting: Sequence[Waiting] = ()
    hindered: Sequence[Waiting] = ()  # jobs that the node knows a reason for
    backup_at: datetime | None = None
    kept_since: datetime | None = None  # the first entry of the index
    no_backup: str = ""  # the housekeeper's sentence of a backup that could not be made
    restarts: Mapping[str, int] = field(default_factory=dict)  # in an hour, by process
    held: int = 0  # quarantine entries that have waited for a person for a day
    clock: Clock = Clock()
    certificates: Sequence[Certificate] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong: one alert for each kind and subject."""

    kind: str
    subject: str
    sentence: str
    remedy: str


def judge(facts: Facts, rules: Alerts, now: datetime) -> list[Trouble]:
    """Find everything that is wrong."""
    return [
        *_disk(facts),
        *_streams(facts, rules),
        *_broken(facts, now),
        *_destinations(facts, rules, now),
        *_deliveries(facts),
        *_waiting(facts, rules, now),
        *_backup(facts, now),
        *_restarts(facts, rules),
        *_held(facts),
        *_clock(facts.clock, rules),
        *_certificates(facts, rules, now),
    ]


def _disk(facts: Facts) -> Iterator[Trouble]:
    if facts.refusals:
        sentence = " ".join(one for one, _ in facts.refusals)
        remedy = "; ".join(remedy for _, remedy in facts.refusals)
        yield Trouble("disk", "data_root", sentence, remedy)
    elif facts.full:
        remedy = "brookbox status; give the volume more room, or let what waits go on"
        yield Trouble("disk", "data_root", facts.full, remedy)


def _streams(facts: Facts, rules: Alerts) -> Iterator[Trouble]:
    for title, failed in sorted(facts.failed_in_a_row.items()):
        if failed >= rules.failures_in_a_row:
            sentence = f"{count(failed, 'job')} of the stream {title} failed in a row."
            yield Trouble("stream", title, sentence, f"brookbox why {title}")


def _broken(facts: Facts, now: datetime) -> Iterator[Trouble]:
    for one in facts.broken:
        # Not what was broken in the future: the clock was set back since.
        if not timedelta() <= now - one.since < BROKEN_AGE:
            kind = "doubled" if one.is_served else "broken"
            yield Trouble(kind, one.subject, one.sentence, one.remedy)


def _destinations(facts: Facts, rules: Alerts, now: datetime) -> Iterator[Trouble]:
    for one in facts.down:
        if now - one.since >= timedelta(minutes=rules.destination_minutes):
            lasted, waiting = _lasted(now - one.since), count(one.deliveries, "delivery")
            sentence = f"{one.destination} has taken nothing for {lasted}; it is to get {waiting}."
            remedy = f"brookbox deliveries list --destination {one.destination}"
            yield Trouble("destination", one.destination, sentence, remedy)


def _deliveries(facts: Facts) -> Iterator[Trouble]:
    for name, given_up in sorted(facts.given_up.items()):
        sentence = f"{count(given_up, 'delivery')} to {name} were given up in the last 24 hours."
        remedy = f"brookbox deliveries list --state gave_up --destination {name}"
        yield Trouble("delivery", name, sentence, remedy)


def _waiting(facts: Facts, rules: Alerts, now: datetime) -> Iterator[Trouble]:
    limit = timedelta(minutes=rules.waiting_minutes)
    long = [one for one in facts.waiting if now - one.since >= limit]
    titles = {one.ae_title for one in long}
    for one in [*long, *(one for one in facts.hindered if one.ae_title not in titles)]:
        if now - one.since >= min(limit, HINDERED_AGE):
            what = "A study has been arriving" if one.job_id is None else "A study has waited"
            sentence = f"{what} for {one.ae_title} for {_lasted(now - one.since)}."
            if one.why:
                sentence += f" {one.why.rstrip('.')}."
            remedy = (
                "brookbox arrivals list" if one.job_id is None else f"brookbox why {one.job_id}"
            )
            yield Trouble("waiting", one.ae_title, sentence, remedy)


def _backup(facts: Facts, now: datetime) -> Iterator[Trouble]:
    remedy = "read housekeeper.log in data_root/logs, or: brookbox backup DIR"
    if facts.no_backup:
        yield Trouble("backup", "index", facts.no_backup, remedy)
    elif (
        facts.kept_since
        and now - max(facts.backup_at or facts.kept_since, facts.kept_since) > BACKUP_AGE
    ):
        last = (
            f"is of {facts.backup_at:%Y-%m-%d %H:%M} UTC" if facts.backup_at else "was never made"
        )
        yield Trouble("backup", "index", f"The last backup of the index {last}.", remedy)


def _restarts(facts: Facts, rules: Alerts) -> Iterator[Trouble]:
    for name, restarts in sorted(facts.restarts.items()):
        if restarts >= rules.restarts_in_an_hour:
            sentence = f"{name} was started anew {restarts} times within an hour."
            log = "receiver" if name == "receiving process" else name
            remedy = f"read {log}.log in data_root/logs"
            yield Trouble("restarts", name, sentence, remedy)


def _held(facts: Facts) -> Iterator[Trouble]:
    if facts.held:
        files = count(facts.held, "file")
        sentence = f"{files} in quarantine waited for a person's decision for over a day."
        yield Trouble("quarantine", "held", sentence, "brookbox quarantine list")


def _clock(clock: Clock, rules: Alerts) -> Iterator[Trouble]:
    if clock.jumped:
        remedy = "check the date, then: brookbox housekeeper-confirm"
        yield Trouble("clock", "jump", clock.jumped, remedy)
    if rules.clock and clock.is_synchronised is False and clock.up > _START_OF_A_CLOCK:
        sentence = "The kernel says that nothing keeps this machine's clock right."
        remedy = "timedatectl set-ntp true; or alerts.clock: false where something else keeps it"
        yield Trouble("clock", "synchronisation", sentence, remedy)


def _certificates(facts: Facts, rules: Alerts, now: datetime) -> Iterator[Trouble]:
    for one in facts.certificates:
        if one.expires_at is None:
            sentence = f"The certificate {one.file} cannot be read: {one.problem}."
            remedy = "mend the file, or alerts.certificates"
            yield Trouble("certificate", one.file, sentence, remedy)
        elif one.expires_at - now <= timedelta(days=rules.certificate_days):
            will = "expired" if one.expires_at <= now else "expires"
            sentence = f"The certificate {one.file} {will} on {one.expires_at:%Y-%m-%d %H:%M} UTC."
            yield Trouble("certificate", one.file, sentence, "put a new one in its place")


def _lasted(span: timedelta) -> str:
    """Say a span as roughly as a person needs it; it changes slowly, as the alert's words do."""
    minutes = int(span.total_seconds() // 60)
    if minutes < 120:
        return count(minutes, "minute")
    hours = minutes // 60
    return count(hours, "hour") if hours < 72 else count(hours // 24, "day")
