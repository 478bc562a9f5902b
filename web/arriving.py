"""What is still coming in and what it waits for; what came in and was nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from appliance.dispatcher.awaited import what_it_waits_for
from appliance.index import arrival_list, arrivals, catalog
from appliance.index.arrival_list import ArrivalRow
from appliance.index.catalog import Study
from web.node import Node


@dataclass(frozen=True, slots=True)
class Arriving:
    """One arrival with its study; `waits_for` is a sentence while it is open."""

    arrival: ArrivalRow
    study: Study | None
    waits_for: str = ""


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
    return [Arriving(row, studies[row.study_uid]) for row in rows]
