"""What is still coming in and what it waits for; what came in and was nothing new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

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
    with node.db.read() as connection:
        rows = arrival_list.still_open(connection)
        studies = {row.study_uid: catalog.find_study(connection, row.study_uid) for row in rows}
    return [
        Arriving(row, studies[row.study_uid], waits_for(node, judged[row.id], now))
        for row in rows
        if row.id in judged
    ]
