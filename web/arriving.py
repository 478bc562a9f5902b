"""What is still coming in and what it waits for; what came in and was nothing new."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from appliance.disk import quarantine
from appliance.dispatcher.awaited import what_it_waits_for
from appliance.errors import NotFound
from appliance.index import arrival_list, arrivals, catalog, events
from appliance.index.arrival_list import ArrivalRow
from appliance.index.catalog import Study
from appliance.index.database import Connection
from web.node import Node


@dataclass(frozen=True, slots=True)
class Arriving:
    """One arrival with its study; `waits_for` is a sentence while it is open.

    `study` is None when nothing of it is kept: no more, or never (`was_kept`), since all of
    it is in quarantine, as the entry `quarantine` among others ("" when that is gone).
    """

    arrival: ArrivalRow
    study: Study | None
    waits_for: str = ""
    was_kept: bool = True
    quarantine: str = ""


def arriving_now(node: Node, now: datetime) -> list[Arriving]:
    """List what is still coming in, newest first."""
    since = now - timedelta(seconds=node.settings.completeness.idle_seconds)
    judged = {one.id: one for one in arrivals.open_arrivals(node.db, since)}
    if not judged:
        return []
    learned = arrivals.learned_quiet(node.db)
    with node.db.read() as connection:
        rows = arrival_list.still_open(connection)
    found = [one for one in _with_studies(node, rows) if one.arrival.id in judged]
    streams, rules = node.streams(), node.settings.completeness
    return [
        replace(
            one,
            waits_for=what_it_waits_for(judged[one.arrival.id], streams, rules, learned, now),
        )
        for one in found
    ]


def nothing_done(node: Node, since: datetime) -> list[Arriving]:
    """List what came in since then without a job being made, newest first."""
    with node.db.read() as connection:
        rows = arrival_list.without_job(connection, since)
    return _with_studies(node, rows)


def closed_lately(node: Node, limit: int) -> list[Arriving]:
    """List what came in last."""
    with node.db.read() as connection:
        rows = arrival_list.closed(connection, limit)
    return _with_studies(node, rows)


def _with_studies(node: Node, rows: Sequence[ArrivalRow]) -> list[Arriving]:
    with node.db.read() as connection:
        studies = {uid: catalog.find_study(connection, uid) for uid in {r.study_uid for r in rows}}
        found = [Arriving(row, studies[row.study_uid]) for row in rows]
        return [one if one.study else _never_kept(node, connection, one) for one in found]


def _never_kept(node: Node, connection: Connection, one: Arriving) -> Arriving:
    """Say of an arrival without a study whether all of it went to quarantine, and where."""
    arrival = one.arrival
    conflicts = arrival_list.conflicts_of(connection, arrival.id)
    if not conflicts or conflicts < arrival.instances:
        return one
    told = events.latest(connection, 1, kind="instance conflicts", study_uid=arrival.study_uid)
    ids = [str(json.loads(event.facts).get("quarantine", "")) for event in told]
    return replace(one, was_kept=False, quarantine=next(filter(partial(_is_there, node), ids), ""))


def _is_there(node: Node, id: str) -> bool:
    try:
        return bool(quarantine.read(node.layout, id))
    except NotFound:
        return False
