"""The index from the files: made again, or brought up to what they tell after a restore.

For the command line, while the node is stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.errors import BackupError
from appliance.health import stored_files
from appliance.health.job_folders import job_ids
from appliance.health.put_aside import put_aside
from appliance.health.stored_files import Complain
from appliance.index import backup, belonging, database, file_check, former, migrate, rebuild
from appliance.index.carried import Sends
from appliance.index.former import Fate, Former
from appliance.index.rebuild import CaughtUp, Rebuilt, Told
from appliance.settings import Settings
from appliance.streams.catalog import Streams, streams_of

__all__ = [
    "CaughtUp",
    "Made",
    "adopt",
    "catch_up",
    "check_idle",
    "check_used",
    "make_again",
    "read_former",
    "read_sends",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What a rebuild made, where the index before is now, and what became of its jobs."""

    rebuilt: Rebuilt
    aside: Path | None
    fates: tuple[Fate, ...]


def check_used(settings: Settings) -> None:
    """Raise BackupError where no node ever ran: there are no files that could tell."""
    root = settings.data_root
    if not Layout(root).studies.is_dir():
        raise BackupError(
            f"there is nothing to make an index of in {root.absolute()}: no node ran here",
            remedy="go to the folder of a node that has run, or name it: "
            "brookbox --home FOLDER index rebuild",
        )


def check_idle(settings: Settings, now: datetime) -> None:
    """Raise BackupError while a node works on an index that stands elsewhere.

    Of one in the data folder itself, the folder's lock tells.
    """
    if not settings.index.url or backup.why_nothing(settings):
        return
    db = database.connect(settings)
    try:
        belonging.check_idle(db, now)
    finally:
        db.close()


def adopt(settings: Settings) -> None:
    """Give an index that is another folder's to this one."""
    db = database.connect(settings)
    try:
        migrate.check_version(db)
        belonging.adopt(db, settings)
    finally:
        db.close()


def read_former(settings: Settings) -> Former | None:
    """Read what only the present index knows; None when there is none.

    Raises IndexUnavailable when it cannot be read.
    """
    if backup.why_nothing(settings):
        return None
    db = database.connect(settings)
    try:
        return former.read_former(db)
    finally:
        db.close()


def read_sends(settings: Settings, since: datetime) -> Sends | None:
    """Read what the present index knows of sending since then; None when there is none.

    Raises IndexUnavailable when it cannot be read.
    """
    if backup.why_nothing(settings):
        return None
    db = database.connect(settings)
    try:
        return former.read_sends_since(db, since)
    finally:
        db.close()


def make_again(
    settings: Settings, before: Former | None, now: datetime, who: str, complain: Complain
) -> Made:
    """Make the index from the files; the present one is kept in a file beside it.

    May be killed and repeated: files are moved last, and what is not moved yet is found again.
    """
    new, part = _beside(settings)
    aside = None if part else backup.save_aside(settings, f"before-rebuild-{now:%Y%m%dT%H%M%SZ}")
    db = database.connect(new)
    try:
        migrate.migrate(db)
        layout = Layout(settings.data_root)
        told = _told(settings, stored_files.stored_paths(layout), now, complain)
        done = rebuild.rebuild(db, told, before, now, who)
        fates = former.fates(db, before) if before else []
        belonging.adopt(db, settings)
    finally:
        db.close()
    if part:
        aside = backup.take_over(settings, part, now)
    return Made(put_aside(layout, done), aside, tuple(fates))


def catch_up(
    settings: Settings,
    made_at: datetime,
    now: datetime,
    who: str,
    complain: Complain,
    before: Sends | None = None,
) -> CaughtUp:
    """Take into a restored index what came after it; it gets this program's schema first.

    `before` is what the index that it took the place of knew of sending.

    May be killed, and repeated with the restore: files are moved last.
    """
    db = database.connect(settings)
    try:
        if migrate.needs_migration(db):
            migrate.migrate(db)
        belonging.adopt(db, settings)
        with db.read() as connection:
            known = set(file_check.instance_paths(connection))
        layout = Layout(settings.data_root)
        unknown = (
            path
            for path in stored_files.stored_paths(layout)
            if str(path.relative_to(layout.root)) not in known
        )
        told = _told(settings, unknown, now, complain)
        done = rebuild.catch_up(db, told, made_at, now, who, before)
    finally:
        db.close()
    return put_aside(layout, done)


def _told(settings: Settings, paths: stored_files.Paths, now: datetime, complain: Complain) -> Told:
    layout = Layout(settings.data_root)
    return Told(
        files=stored_files.stored_files(layout, paths, complain),
        records=stored_files.job_records(layout, complain),
        highest_job_id=max(job_ids(layout), default=0),
        level_of=_level_of(streams_of(settings)),
        since=now - timedelta(days=settings.housekeeper.logs_days),
    )


def _level_of(streams: Streams) -> Callable[[str], str | None]:
    def level_of(ae_title: str) -> str | None:
        stream = streams.find(ae_title)
        if stream is None:
            return None
        # As adoption has it: also a stream that is broken just now gets its study.
        return stream.info.level if stream.info else "study"

    return level_of


def _beside(settings: Settings) -> tuple[Settings, Path | None]:
    """Give settings of a new SQLite file beside the present one; PostgreSQL is filled in place."""
    if backup.saved_name(settings) != "index.sqlite3":
        return settings, None
    part = backup.sqlite_path(settings).with_name("index.sqlite3.rebuilt")
    for tail in ("", "-wal", "-shm"):
        Path(f"{part}{tail}").unlink(missing_ok=True)
    url = f"sqlite:///{part}"
    return dataclasses.replace(settings, index=dataclasses.replace(settings.index, url=url)), part
