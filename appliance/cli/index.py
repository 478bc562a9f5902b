"""`brookbox index`: is it sound, does it agree with the files, make it again from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli import show
from appliance.cli.asked import Asked, confirm, pass_asked
from appliance.disk.layout import Layout
from appliance.health import node_lock, stored_files
from appliance.health.job_folders import job_ids
from appliance.index import backup, database, file_check, migrate
from appliance.index import rebuild as from_files
from appliance.index.database import Database
from appliance.settings import Settings

_SHOWN = 20


@click.group()
def index() -> None:
    """The index: check, rebuild, migrate-status."""


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
    missing, unknown = sorted(known - found), sorted(found - known)
    good = not (damage or missing or changed)
    if asked.as_json:
        show.as_json(
            {
                "good": good,
                "damage": damage,
                "instances": len(known),
                "missing": missing,
                "unknown": unknown,
                "changed": changed,
            }
        )
        return 0 if good else 1
    click.echo(f"{len(known)} instances, {len(found)} files.")
    if damage:
        click.echo(f"The database is damaged: {damage}")
        show.note("try: brookbox restore FOLDER, or brookbox index rebuild")
    _list("instances have no file (restore them from a backup with files)", missing)
    _list("files have no row (the housekeeper removes them)", unknown)
    _list("files differ from what was received", changed)
    return 0 if good else 1


@index.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_asked
def rebuild(asked: Asked, yes: bool) -> None:
    """Make the index again from the files; the node must be stopped.

    The present index is kept beside the new one.
    """
    settings = asked.settings()
    layout = Layout(settings.data_root)
    layout.make()
    show.note(f"Files do not tell: {from_files.NOT_IN_FILES}.")
    confirm("Make the index again from the files?", yes=yes)
    with node_lock.held(layout.run):
        node_lock.wait_for_leftovers(layout.root, 60)
        done, aside = _rebuild(settings, layout)
    if asked.as_json:
        show.as_json({"rebuilt": done, "former_index": aside})
        return
    click.echo(
        f"The index holds {done.instances} instances of {done.studies} studies, "
        f"{done.receptions} receptions and {done.jobs} ended jobs."
    )
    click.echo(f"The next job is {done.next_job_id}.")
    if aside:
        click.echo(f"The index that was there is now {aside}.")


def _rebuild(settings: Settings, layout: Layout) -> tuple[from_files.Rebuilt, Path | None]:
    def complain(path: Path, why: str) -> None:
        show.note(f"{path}: {why}")

    new, part = _beside(settings)
    db = database.connect(new)
    try:
        migrate.migrate(db)
        done = from_files.rebuild(
            db,
            stored_files.stored_files(layout, complain),
            stored_files.job_records(layout, complain),
            max(job_ids(layout), default=0),
        )
    finally:
        db.close()
    return done, backup.take_over(settings, part, datetime.now(UTC)) if part else None


def _beside(settings: Settings) -> tuple[Settings, Path | None]:
    """Give settings of a new SQLite file beside the present one; PostgreSQL is filled in place."""
    if backup.saved_name(settings) != "index.sqlite3":
        return settings, None
    part = database.sqlite_file(settings).with_name("index.sqlite3.rebuilt")
    for tail in ("", "-wal", "-shm"):
        Path(f"{part}{tail}").unlink(missing_ok=True)
    url = f"sqlite:///{part}"
    return dataclasses.replace(settings, index=dataclasses.replace(settings.index, url=url)), part


def _changed(db: Database, layout: Layout) -> Iterator[str]:
    from appliance.disk.studies import dataset_digest

    with db.read() as connection:
        for path, digest in file_check.instance_digests(connection):
            file = layout.root / path
            if file.is_file() and dataset_digest(file) != digest:
                yield path


def _list(what: str, paths: list[str]) -> None:
    if not paths:
        return
    click.echo(f"{len(paths)} {what}:")
    for path in paths[:_SHOWN]:
        click.echo(f"  {path}")
    if len(paths) > _SHOWN:
        click.echo("  …")
