"""`brookbox backup` and `brookbox restore`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked
from appliance.disk.layout import Layout
from appliance.errors import BackupError
from appliance.health import backups, node_lock
from appliance.index.database import connect
from appliance.index.file_check import instance_paths
from appliance.index.migrate import found_version
from appliance.settings import Settings


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--with-files", is_flag=True, help="Also the studies and the jobs' folders.")
@pass_asked
def backup(asked: Asked, folder: Path, with_files: bool) -> None:
    """Back up index, settings and routing rules into a new folder below FOLDER.

    The node may go on meanwhile.  Secrets (access key, password files) are not in it, nor
    the streams but for their info.json.
    """
    settings = asked.settings()
    made = backups.make_backup(settings, folder, datetime.now(UTC), with_files=with_files)
    if asked.as_json:
        show.as_json({"folder": made.folder, "with_files": with_files, "files": len(made.digests)})
        return
    click.echo(f"The backup is in {made.folder} ({len(made.digests)} files).")
    if not with_files:
        click.echo("It holds no images: to copy those too, add --with-files.")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Also into a data_root that is in use already.")
@pass_asked
def restore(asked: Asked, folder: Path, yes: bool) -> None:
    """Put a backup back; the node must be stopped."""
    settings = asked.settings()
    layout = Layout(settings.data_root)
    found = backups.read_backup(folder)
    layout.make()
    with node_lock.held(layout.run):
        if not yes and _is_used(settings, layout):
            raise BackupError(
                f"{layout.root} is not empty",
                remedy=f"brookbox restore --yes {folder} (the index there is kept beside the new "
                "one, files that are there stay)",
            )
        done = backups.restore_backup(settings, found, datetime.now(UTC))
    missing = _missing_files(settings)
    if asked.as_json:
        show.as_json({"restored": done, "instances_without_file": missing})
        return
    click.echo(f"The index of {show.printable(found.made_at)} UTC is back.")
    if done.files:
        click.echo(f"{done.files} files were put back.")
    if done.index_aside:
        click.echo(f"The index that was there is now {done.index_aside}.")
    for path in done.settings_left:
        click.echo(f"{path} stays as it is; the backup's is in {folder / 'config'}.")
    if missing:
        click.echo(f"{missing} instances of the index have no file here: brookbox index check")
    click.echo("Streams are not in a backup: put their folders back. Start the node: brookbox up")


def _is_used(settings: Settings, layout: Layout) -> bool:
    places = (layout.studies, layout.jobs, layout.quarantine)
    if any(layout.root.glob("index.sqlite3*")) or any(any(p.iterdir()) for p in places):
        return True
    db = connect(settings)
    try:
        return not db.is_sqlite and found_version(db) is not None
    finally:
        db.close()


def _missing_files(settings: Settings) -> int:
    db = connect(settings)
    try:
        with db.read() as connection:
            return sum(
                not (settings.data_root / path).is_file() for path in instance_paths(connection)
            )
    finally:
        db.close()
