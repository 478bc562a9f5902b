"""`brookbox events`: the audit trail, newest first."""

from __future__ import annotations

import click

from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.index import events as index


@click.command()
@click.option("--kind", default="", help="Only this kind, such as: removed.")
@click.option("--study", default="", help="Only of this Study Instance UID.")
@click.option("--job", type=int, help="Only of this job.")
@click.option("--limit", default=50, show_default=True, help="How many, newest first.")
@pass_asked
def events(asked: Asked, kind: str, study: str, job: int | None, limit: int) -> None:
    """Who did what to which study."""
    db = asked.open_index()
    with db.read() as connection:
        found = index.latest(connection, limit, kind=kind, study_uid=study, job_id=job)
    db.close()
    if asked.as_json:
        show.as_json(found)
        return
    rows = [(e.at, e.kind, e.who, e.job_id, e.sentence) for e in found]
    is_filtered = bool(kind or study or job is not None)
    columns = ("when", "kind", "who", "job", "what")
    show.table(columns, rows, show.nothing_of("event", is_filtered=is_filtered))
