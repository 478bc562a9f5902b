"""What happened to an AE title, in sentences, in order of time: for `brookbox why`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from appliance.amounts import count
from appliance.disk import quarantine_list
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry
from appliance.health.gone_streams import gone_streams
from appliance.health.node_checks import best_lanes
from appliance.index import job_list, lanes, story
from appliance.index.database import Connection, Database
from appliance.index.events import Event
from appliance.index.states import Ending
from appliance.index.story import Associated
from appliance.settings import Settings
from appliance.streams.catalog import Streams, streams_of

_EVENTS = 20
_ASSOCIATIONS = 10
# Each of these is told better by the association or by the entry that it is about.
_CLOSED = "association closed"
_PUT_ASIDE = {"instance refused", "instance conflicts", "instance held", "instance replaced"}

Told = tuple[datetime, str]
Facts = dict[str, Any]


def of_ae_title(db: Database, settings: Settings, ae_title: str) -> list[str]:
    """Tell of an AE title: whose it is, what it can do, who called it or whom it called."""
    layout = Layout(settings.data_root)
    entries = [
        entry
        for entry in quarantine_list.newest(layout, _EVENTS)
        if ae_title in (entry.called_ae_title, entry.calling_ae_title)
    ]
    with db.read() as connection:
        called = story.associations_of(connection, ae_title, _ASSOCIATIONS)[::-1]
        happened = story.events_about(connection, ae_title, _EVENTS)[::-1]
        told = list(_associations(connection, called))
    told += _events(happened, {one.id for one in called} | {entry.id for entry in entries})
    told += [(entry.received_at, _quarantined(entry)) for entry in entries[::-1]]
    told.sort(key=lambda one: one[0])  # those of one moment stay in order
    return _whose(db, settings, ae_title) + [f"{time_of(at)}: {words}" for at, words in told]


def time_of(at: datetime | None) -> str:
    """Say a moment to the second, in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else "?"


def _associations(connection: Connection, called: list[Associated]) -> Iterator[Told]:
    if not called:
        return
    conflicts = story.conflicts_over(connection, [one.id for one in called])
    callers = {one.calling_ae_title for one in called}
    closings = story.closings_since(connection, callers, min(one.opened_at for one in called))
    closed = {facts.get("association"): facts for facts in map(_facts, closings)}
    for one in called:
        facts = {"conflicts": conflicts.get(one.id, 0), **closed.get(one.id, {})}
        yield (
            one.opened_at,
            f"{one.calling_ae_title} at {one.address} called {one.called_ae_title}; "
            f"{_came(one, facts)}, {_ended(one)}.",
        )


def _came(one: Associated, facts: Facts) -> str:
    """Say what became of what came: what is in quarantine is not counted as kept."""
    held, conflicts = facts.get("held", 0), facts["conflicts"]
    told = [f"{count(max(one.instances - held - conflicts, 0), 'instance')} kept"]
    told += [f"{conflicts} in quarantine (other content is kept)"] if conflicts else []
    told += [f"{held} held in quarantine"] if held else []
    return ", ".join(told)


def _ended(one: Associated) -> str:
    if one.ending == Ending.UNKNOWN:
        return "how it ended is not known: this was read again from the files"
    if one.ending == Ending.PROCESS_DIED:
        return "it ended because the node's own receiving process did"
    return f"{one.failures} refused, {one.ending or 'open still'}"


def _events(happened: list[Event], told: set[str]) -> Iterator[Told]:
    """Give the events, but those that are about what is told of anyway."""
    for event in happened:
        facts = _facts(event)
        is_known = event.kind == _CLOSED and facts.get("association") in told
        is_known |= event.kind in _PUT_ASIDE and facts.get("quarantine") in told
        if not is_known:
            yield event.at, event.sentence


def _facts(event: Event) -> Facts:
    facts: Facts = json.loads(event.facts)
    return facts


def _quarantined(entry: Entry) -> str:
    return (
        f"an instance from {entry.calling_ae_title} for {entry.called_ae_title} "
        f"is in quarantine ({entry.id}): {entry.reason}"
    )


def _whose(db: Database, settings: Settings, ae_title: str) -> list[str]:
    if ae_title == settings.node.ae_title:
        return [f"{ae_title} is the node itself: it answers echo and keeps without processing."]
    streams = streams_of(settings)
    stream = streams.find(ae_title)
    if stream is None:
        with db.read() as connection:
            sender = list(_sender(connection, ae_title))
            gone = gone_streams(connection, streams, settings.streams_folder)
        lost = [f"{one.sentence} Try: {one.remedy}" for one in gone if one.ae_title == ae_title]
        return lost + sender + _unknown(streams, ae_title)
    lines = [f"{ae_title} is the stream in {stream.folder}."]
    lines += [f"{stream.folder.name}/{problem}" for problem in stream.problems]
    with db.read() as connection:
        is_off = ae_title in lanes.switched_off(connection)
        waiting = job_list.waiting_by_stream(connection).get(ae_title, 0)
    lane = best_lanes(db).get(ae_title)
    if not stream.is_good:
        lines.append("It cannot serve: its associations are refused (1,1,7).")
    elif is_off or not stream.is_enabled:
        lines.append("It is switched off: its associations are refused (1,1,7).")
    elif lane is None:
        lines.append("No worker serves it just now: what comes is kept and waits.")
    elif not lane.is_open:
        lines.append(f"It cannot run just now: {lane.why_not} Try: {lane.remedy}")
    else:
        lines.append(f"It can run ({lane.executor}).")
    studies = "1 study waits" if waiting == 1 else f"{waiting} studies wait"
    lines.append(f"{studies} for it; above {settings.jobs.max_waiting} it refuses.")
    return lines


def _sender(connection: Connection, ae_title: str) -> Iterator[str]:
    """Say whom an AE title called; nothing when nobody by that name ever called us."""
    called = story.called_by(connection, ae_title)
    for one in called:
        at = time_of(one.last_at)
        yield f"{ae_title} is a sender: it called {one.called_ae_title}, the last time at {at}."
    if not called and story.was_refused(connection, ae_title):
        yield f"{ae_title} is a sender: it called this node, and was refused."


def _unknown(streams: Streams, ae_title: str) -> list[str]:
    meant = streams.meant(ae_title)
    hint = f" Did you mean {meant}? AE titles are compared exactly." if meant else ""
    return [f"No stream has the AE title {ae_title}: who calls it is refused (1,1,7).{hint}"]
