"""`brookbox backup` and `brookbox restore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.amounts import count
from appliance.cli import show
from appliance.cli.asked import Asked, pass_asked, who
from appliance.cli.index import tell_put_aside, tell_sends, waiting
from appliance.disk.copies import LeftOut
from appliance.disk.layout import Layout
from appliance.erasure import again
from appliance.errors import BackupError, IndexUnavailable
from appliance.health import backup_folders, backups, from_files, node_lock
from appliance.health.backups import Backup, Restored
from appliance.health.from_files import CaughtUp
from appliance.index.carried import Sends
from appliance.index.database import connect
from appliance.index.file_check import instance_paths
from appliance.index.migrate import found_version
from appliance.settings import Settings

_SHOWN = 20


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--with-files", is_flag=True, help="Also studies, the jobs' folders and all of the streams."
)
@pass_asked
def backup(asked: Asked, folder: Path, with_files: bool) -> None:
    """Back up index, settings, routing rules and streams into a new folder below FOLDER.

    The node may go on meanwhile.  Of the streams, models, memory and files above 100 MB come
    only with --with-files.  Secrets of the node (access key, password files) are not in it.
    """
    settings = asked.settings()
    made = backups.make_backup(settings, folder, datetime.now(UTC), with_files=with_files)
    if asked.as_json:
        show.as_json(
            {
                "folder": made.folder,
                "with_files": with_files,
                "files": len(made.digests),
                "left_out": made.left_out,
            }
        )
    else:
        click.echo(f"The backup is in {made.folder} ({count(len(made.digests), 'file')}).")
        if not with_files:
            click.echo("It holds no images: to copy those too, add --with-files.")
        _tell_left_out(made.left_out, "Left out:")
    for part in backup_folders.leftovers(folder):
        show.note(
            f"{part} is of a backup that is being made, or of one that was killed: "
            "then remove it by hand."
        )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Also into a data_root that is in use already.")
@pass_asked
def restore(asked: Asked, folder: Path, yes: bool) -> None:
    """Put a backup back; the node must be stopped.

    FOLDER is one backup, such as DIR/brookbox-20260301T020000Z.  Nothing is lost: files that are
    there stay, and the index that is there is kept in a file below data_root.
    """
    settings = asked.settings()
    layout = Layout(settings.data_root)
    if layout.run.is_dir():
        with node_lock.held(layout.run):  # said before all of the backup is read
            pass
    from_files.check_idle(settings, datetime.now(UTC))
    if not yes and (used := _what_is_used(settings, layout)):
        raise BackupError(
            f"{used} is not empty",
            remedy=f"brookbox restore --yes {folder} (the index that is there is kept in a file, "
            "files that are there stay)",
        )
    found = backups.read_backup(folder)
    layout.make()
    with node_lock.held(layout.run):
        node_lock.wait_for_leftovers(layout.root, 60)
        now = datetime.now(UTC)
        before = again.remember(settings, show.note)
        sends = _sends(settings, found)
        done = backups.restore_backup(settings, found, now)
        caught_up = from_files.catch_up(settings, found.made_at, now, who(), show.complain, sends)
        erased = again.forget_again(settings, before, who(), now)
    missing = _missing_files(settings)
    if asked.as_json:
        show.as_json(
            {
                "restored": done,
                "came_after_it": caught_up,
                "instances_without_file": missing,
                "erased_again": erased,
            }
        )
    else:
        _tell_restored(found, done, caught_up, [*erased, *_without_files(missing)])


def _sends(settings: Settings, found: Backup) -> Sends | None:
    """Read what only the present index knows of sending; say so when nobody will know it."""
    try:
        return from_files.read_sends(settings, found.made_at)
    except IndexUnavailable as error:
        show.note(
            f"The present index cannot be read ({error}): what was sent since the backup, and what "
            "was still to be sent, is not known."
        )
        return None


def _tell_left_out(left_out: Sequence[LeftOut], title: str) -> None:
    if not left_out:
        return
    click.echo(title)
    for one in left_out[:_SHOWN]:
        click.echo(f"  {show.printable(one.path)}: {one.why}")
    if len(left_out) > _SHOWN:
        click.echo(f"  and {len(left_out) - _SHOWN} more: left_out in {backup_folders.MANIFEST}")


def _tell_restored(found: Backup, done: Restored, caught_up: CaughtUp, more: Sequence[str]) -> None:
    click.echo(f"The index of {show.printable(found.made_at)} UTC is back.")
    if done.files:
        click.echo(f"{done.files} {'file was' if done.files == 1 else 'files were'} put back.")
    if done.streams.back:
        click.echo(f"Streams put back: {', '.join(done.streams.back)}.")
    if done.streams.left:
        click.echo(
            f"Streams that were there stay as they are: {', '.join(done.streams.left)}; "
            f"the backup's are in {found.folder / 'streams'}."
        )
    if done.index_aside:
        click.echo(f"The index that was there is now {done.index_aside}.")
    for path in done.settings_left:
        click.echo(f"{path} stays as it is; the backup's is in {found.folder / 'config'}.")
    back = tuple(f"streams/{name}/" for name in done.streams.back)
    _tell_left_out(
        [one for one in found.left_out if one.path.startswith(back)],
        "The backup does not hold these, put them back by hand:",
    )
    _tell_caught_up(caught_up)
    for sentence in more:
        click.echo(sentence)
    click.echo("Start the node: brookbox up")


def _without_files(missing: int) -> list[str]:
    if not missing:
        return []
    return [f"Instances of the index without a file here: {missing}. See: brookbox index check"]


def _tell_caught_up(caught_up: CaughtUp) -> None:
    if caught_up.instances or caught_up.jobs:
        click.echo(
            f"{count(caught_up.instances, 'instance')} and "
            f"{count(caught_up.jobs, 'ended job')} that came after the backup were taken in "
            "from their files."
        )
    if caught_up.arrivals:
        click.echo(waiting(caught_up.arrivals))
    tell_put_aside(caught_up)
    tell_sends(caught_up)


def _what_is_used(settings: Settings, layout: Layout) -> str:
    """Name what a restore would find in use: the folder, or the database; "" when it is none."""
    places = (layout.studies, layout.jobs, layout.quarantine)
    files = any(place.is_dir() and any(place.iterdir()) for place in places)
    if files or any(layout.root.glob("index.sqlite3*")):
        return str(layout.root)
    if not settings.index.url:
        return ""
    db = connect(settings)
    try:
        return "the database of index.url" if found_version(db) is not None else ""
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
