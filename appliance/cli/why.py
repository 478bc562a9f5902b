"""`brookbox why`: what happened to a study, a job or an AE title, in sentences."""

from __future__ import annotations

import click

from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.dicom.names import is_ae_title, is_uid
from appliance.errors import NotFound
from appliance.health import story, story_of_ae_title


@click.command()
@click.argument("what", metavar="STUDY_UID | JOB | AE_TITLE")
@pass_asked
def why(asked: Asked, what: str) -> None:
    """Tell what happened to a study, a job or an AE title."""
    settings = asked.settings()
    db = asked.open_index()
    try:
        if what.isdigit():
            lines = story.of_job(db, int(what))
        elif is_uid(what):
            lines = story.of_study(db, what)
        elif is_ae_title(what):
            lines = story_of_ae_title.of_ae_title(db, settings, what)
        else:
            raise click.UsageError(f"{what} is no Study Instance UID, job or AE title.")
    finally:
        db.close()
    if not lines:
        raise NotFound(
            f"nothing is known of the study {what}",
            remedy="see who was refused, and why: brookbox why AE_TITLE of the sender",
        )
    if asked.as_json:
        show.as_json(lines)
    for line in lines if not asked.as_json else ():
        click.echo("  " * line.startswith("  ") + show.printable(line.strip()))
