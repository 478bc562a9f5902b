"""`brookbox index`: is it sound, does it agree with the files, make it again from them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import click

from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, confirm, pass_asked, who
from appliance.disk.layout import Layout
from appliance.erasure import again
from appliance.errors import IndexUnavailable
from appliance.health import from_files, node_lock, stored_files
from appliance.health.from_files import Made
from appliance.index import database, file_check, migrate, unknown_sends
from appliance.index.database import Database
from appliance.index.former import Former
from appliance.index.rebuild import NOT_IN_FILES, CaughtUp, Rebuilt
from appliance.settings import Settings

_SHOWN = 20


@click.group()
def index() -> None:
    """The index: check, rebuild, adopt, migrate-status."""


@index.command(name="migrate-status")
@pass_asked
def migrate_status(asked: Asked) -> int:
    """Say which schema version the index has, and which this program wants."""
    db = database.connect(asked.settings())
    found, wanted = migrate.found_version(db), migrate.wanted_version()
    db.close()
    if asked.as_json:
        show.as_json({"found": found, "wanted": wanted, "good": found == wanted})
    elif found == wanted:
        click.echo(f"The index has schema {found}, as this program wants it.")
    else:
        click.echo(f"The index has schema {found or '(none)'}; this program wants {wanted}.")
        show.note("try: brookbox up (it migrates, after a backup)")
    return 0 if found == wanted else 1


@index.command()
@click.option("--digests", is_flag=True, help="Also read every file and compare its SHA-256.")
@pass_asked
def check(asked: Asked, digests: bool) -> int:
    """Compare the index with itself and with the files."""
    layout = Layout(asked.settings().data_root)
    db = asked.open_index()
    damage = file_check.integrity(db)
    with db.read() as connection:
        known = set(file_check.instance_paths(connection))
        changed = list(_changed(db, layout)) if digests else []
    db.close()
    found = {str(path.relative_to(layout.root)) for path in stored_files.stored_paths(layout)}
    missing, without_row = sorted(known - found), sorted(found - known)
    received = stored_files.received(layout)
    waiting = [one for one in without_row if stored_files.inode(layout.root / one) in received]
    unknown = [one for one in without_row if one not in set(waiting)]
    good = not (damage or missing or changed)
    if asked.as_json:
        show.as_json(
            {
                "good": good,
                "damage": damage,
                "instances": len(known),
                "missing": missing,
                "unknown": unknown,
                "waiting": waiting,
                "changed": changed,
            }
        )
        return 0 if good else 1
    instances = count(len(known), "instance")
    click.echo(f"{instances}, {count(len(found), 'file')}.")
    if damage:
        click.echo(f"The database is damaged: {damage}")
        show.note("try: brookbox restore FOLDER, or brookbox index rebuild")
    _list("instance", "without a file (to be restored from a backup with files)", missing)
    _list("file", "received, with the row to come while the node runs: nothing is lost", waiting)
    _list("file", "without a row (for the housekeeper to remove)", unknown)
    _list("file", "changed since received", changed)
    return 0 if good else 1


@index.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_asked
def rebuild(asked: Asked, yes: bool) -> None:
    """Make the index again from the files; the node must be stopped.

    The present index is kept in a file below data_root.  A study that has no ended job gets a new
    one when the node starts.
    """
    settings = asked.settings()
    from_files.check_used(settings)
    from_files.check_idle(settings, datetime.now(UTC))
    layout = Layout(settings.data_root)
    layout.make()
    with node_lock.held(layout.run):
        node_lock.wait_for_leftovers(layout.root, 60)
        former = _former(settings)
        show.note(f"Files do not tell: {NOT_IN_FILES}.")
        confirm("Make the index again from the files?", yes=yes)
        before = again.remember(settings, show.note)
        made = from_files.make_again(settings, former, datetime.now(UTC), who(), show.complain)
        erased = again.forget_again(settings, before, who(), datetime.now(UTC))
    if asked.as_json:
        show.as_json(
            {
                "rebuilt": made.rebuilt,
                "former_index": made.aside,
                "former_read": former is not None,
                "unended_jobs": made.fates,
                "unsent_jobs": former.unsent if former else None,
                "erased_again": erased,
            }
        )
    else:
        _tell_made(made)
        for sentence in erased:
            click.echo(sentence)


@index.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_asked
def adopt(asked: Asked, yes: bool) -> None:
    """Say that the index at index.url is that of this data folder, which holds its files.

    For a data folder that was moved or put back by hand; no node may use the index.
    """
    settings = asked.settings()
    from_files.check_idle(settings, datetime.now(UTC))
    layout = Layout(settings.data_root)
    layout.make()
    with node_lock.held(layout.run):
        confirm(f"Is {settings.data_root} the folder that holds the index's files?", yes=yes)
        from_files.adopt(settings)
    if asked.as_json:
        show.as_json({"data_root": settings.data_root})
    else:
        click.echo("The index is that of this folder now. Start the node: brookbox up")


def waiting(arrivals: int) -> str:
    """Say what becomes of what was received and has no ended job."""
    return (
        f"{count(arrivals, 'study')} had no ended job: a job of each is made when the node "
        "runs. Nobody knows whether it had come whole, so it counts as possibly incomplete."
    )


def tell_put_aside(done: Rebuilt | CaughtUp) -> None:
    """Say what was moved to quarantine, and what comes in its place."""
    if done.leftovers:
        click.echo(
            f"Put into quarantine: {count(len(done.leftovers), 'result')} of jobs of whose end "
            "there is no record. These jobs run anew."
        )
    if done.older:
        files = count(len(done.older), "file")
        click.echo(f"Put into quarantine: {files} whose place other content had taken.")


def tell_sends(done: Rebuilt | CaughtUp) -> None:
    """Say what goes on to be sent, and of what nobody knows whether it was."""
    if done.due:
        click.echo(
            f"{count(done.due, 'delivery')} of the index that was there had not been sent: they go "
            "on when the node runs."
        )
    if done.unknown_sends:
        click.echo(f"{unknown_sends.sentence(len(done.unknown_sends))}")
        shown = ", ".join(str(job) for job in done.unknown_sends[:_SHOWN])
        click.echo(f"  jobs: {shown}{', …' if len(done.unknown_sends) > _SHOWN else ''}")


def _former(settings: Settings) -> Former | None:
    """Read what only the present index knows; say so when nobody will know it any more."""
    former, why = None, "There is no index now"
    try:
        former = from_files.read_former(settings)
    except IndexUnavailable as error:
        why = f"The present index cannot be read ({error})"
    if former is None:
        show.note(
            f"{why}: the jobs that waited or ran are not known. One that a person had queued, or "
            "that was for a second AE title, is lost."
        )
    elif former.unended:
        jobs = ", ".join(str(job.id) for job in former.unended)
        show.note(f"Files do not tell of these jobs, which wait or run: {jobs}.")
    return former


def _tell_made(made: Made) -> None:
    done = made.rebuilt
    click.echo(
        f"The index holds {count(done.instances, 'instance')} of "
        f"{count(done.studies, 'study')}, {count(done.receptions, 'reception')} and "
        f"{count(done.jobs, 'ended job')}."
    )
    click.echo(f"The next job is {done.next_job_id}.")
    if done.arrivals:
        click.echo(waiting(done.arrivals))
    tell_put_aside(done)
    for fate in made.fates:
        click.echo(fate.sentence)
        if fate.remedy:
            click.echo(f"  try: {fate.remedy}")
    tell_sends(done)
    if done.unsent:
        jobs = ", ".join(str(job) for job in done.unsent)
        click.echo(f"Results of these jobs were not all sent, and no file tells of them: {jobs}.")
        click.echo("  try: send their studies again, where no new job of them is made")
    if made.aside:
        click.echo(f"The index that was there is now {made.aside}.")


def _changed(db: Database, layout: Layout) -> Iterator[str]:
    from appliance.disk.studies import dataset_digest
    from appliance.intake.digests import fill_missing

    fill_missing(db, layout)
    with db.read() as connection:
        for path, digest in file_check.instance_digests(connection):
            file = layout.root / path
            if file.is_file() and dataset_digest(file) != digest:
                yield path


def _list(thing: str, what: str, paths: list[str]) -> None:
    if not paths:
        return
    click.echo(f"{count(len(paths), thing)} {what}:")
    for path in paths[:_SHOWN]:
        click.echo(f"  {path}")
    if len(paths) > _SHOWN:
        click.echo("  …")
