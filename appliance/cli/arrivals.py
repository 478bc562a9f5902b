"""`brookbox arrivals`: what is coming in, what came in, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.index import arrival_list
from appliance.index import arrivals as index
from appliance.index.arrival_list import ArrivalRow
from appliance.index.database import Database
from appliance.settings import Settings


@dataclass(frozen=True, slots=True)
class Listed:
    """One arrival; `waits_for` is a sentence while it is open."""

    arrival: ArrivalRow
    waits_for: str


@click.group()
def arrivals() -> None:
    """The arrivals: list."""


@arrivals.command(name="list")
@click.option("--state", multiple=True, type=click.Choice(["open", "closed"]))
@click.option("--stream", default="", help="AE title that was called.")
@click.option("--study", default="", help="Study Instance UID.")
@click.option("--limit", default=50, show_default=True, help="How many, open ones first.")
@pass_asked
def list_arrivals(
    asked: Asked, state: tuple[str, ...], stream: str, study: str, limit: int
) -> None:
    """List arrivals, open ones first, newest first."""
    settings, db = asked.settings(), asked.open_index()
    try:
        waits_for = _waits_for(settings, db)
        with db.read() as connection:
            rows = arrival_list.matching(connection, limit, state, stream, study)
    finally:
        db.close()
    found = [Listed(row, waits_for.get(row.id, "") * (row.state == "open")) for row in rows]
    if asked.as_json:
        show.as_json(found)
        return
    columns = ("arrival", "state", "for", "from", "images", "last one", "study", "became")
    is_filtered = bool(state or stream or study)
    show.table(columns, map(_row, found), show.nothing_of("arrival", is_filtered=is_filtered))


def _row(one: Listed) -> tuple[object, ...]:
    a = one.arrival
    senders = ", ".join(a.calling_ae_titles)
    return (
        a.id, a.state, a.called_ae_title, senders, a.instances, a.last_instance_at, a.study_uid,
        one.waits_for or _became(a),
    )  # fmt: skip


def _became(a: ArrivalRow) -> str:
    job = f"Job {a.job_id}." if a.job_id and not a.note else ""
    maybe = "Maybe incomplete." if a.incomplete else ""
    return " ".join(part for part in (a.reason, a.note, job, maybe) if part)


def _waits_for(settings: Settings, db: Database) -> dict[int, str]:
    """Map open arrivals to what they wait for."""
    from appliance.dispatcher.awaited import what_it_waits_for
    from appliance.streams.catalog import streams_of

    now, rules = datetime.now(UTC), settings.completeness
    is_open = index.open_arrivals(db, now - timedelta(seconds=rules.idle_seconds))
    if not is_open:
        return {}
    learned, streams = index.learned_quiet(db), streams_of(settings)
    return {one.id: what_it_waits_for(one, streams, rules, learned, now) for one in is_open}
