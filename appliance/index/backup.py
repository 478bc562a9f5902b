"""Save the whole index into one file, and put such a file back.

SQLite is copied by its backup API, so that receiving goes on meanwhile; PostgreSQL
by pg_dump and pg_restore.  Only the index: `health.backups` packs it with the rest.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from appliance.errors import BackupError
from appliance.index.database import connect, index_url, sqlite_file
from appliance.index.migrate import found_version
from appliance.settings import Settings

_DUMP_TIMEOUT_SECONDS = 6 * 3600.0


def saved_name(settings: Settings) -> str:
    """Name the file that a save of this index has: its ending tells the engine."""
    is_sqlite = index_url(settings).get_backend_name() == "sqlite"
    return "index.sqlite3" if is_sqlite else "index.pgdump"


def sqlite_path(settings: Settings) -> Path:
    """Name SQLite's file, also when index.url names it."""
    database = index_url(settings).database
    return Path(database) if database else sqlite_file(settings)


def why_no_save(settings: Settings) -> str:
    """Say what keeps this machine from saving the index; "" when nothing does."""
    if saved_name(settings) == "index.pgdump" and not shutil.which("pg_dump"):
        return "pg_dump is not installed (apt install postgresql-client)"
    return ""


def why_nothing(settings: Settings) -> str:
    """Say why there is nothing to save, where no node ever ran; "" when there is an index.

    Raises IndexUnavailable when there is one that cannot be read.
    """
    if saved_name(settings) == "index.sqlite3" and not sqlite_path(settings).is_file():
        return f"there is no index at {sqlite_path(settings).absolute()}"
    db = connect(settings)
    try:
        return "" if found_version(db) is not None else "the index is empty"
    finally:
        db.close()


def save_index(settings: Settings, target: Path) -> None:
    """Save the index as it is at one moment; `target` is whole and durable, or not there.

    Raises BackupError when it cannot be read or written.
    """
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        if saved_name(settings) == "index.sqlite3":
            _save_sqlite(sqlite_path(settings), part)
        else:
            _run_postgresql("pg_dump", index_url(settings), "--format=custom", f"--file={part}")
        _durably_rename(part, target)
    except (sqlite3.Error, OSError) as error:
        raise BackupError(
            f"the index cannot be saved to {target}: {error}",
            remedy="look at the free space there, and at the index: brookbox doctor",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def load_index(settings: Settings, saved: Path, now: datetime) -> Path | None:
    """Put a saved index in the place of the present one, which nothing may use meanwhile.

    The present one is kept in a file, whose name is given: SQLite's own beside the new
    one, PostgreSQL's saved into data_root.  Raises BackupError as `check_save` does.
    """
    check_save(settings, saved)
    if saved.suffix == ".pgdump":
        aside = save_aside(settings, f"before-restore-{now:%Y%m%dT%H%M%SZ}")
        restore_options = ("--clean", "--if-exists", "--single-transaction", "--no-owner")
        url = index_url(settings)
        _run_postgresql("pg_restore", url, *restore_options, "--dbname", _libpq(url), str(saved))
        return aside
    target = sqlite_path(settings)
    part = target.with_name(target.name + ".part")
    shutil.copyfile(saved, part)
    part.chmod(0o600)
    aside = put_aside(target, f"before-restore-{now:%Y%m%dT%H%M%SZ}")
    _durably_rename(part, target)
    return aside


def save_aside(settings: Settings, ending: str) -> Path | None:
    """Save PostgreSQL's index into data_root before it is replaced; None when it is empty."""
    if why_nothing(settings):
        return None
    aside = settings.data_root / f"{saved_name(settings)}.{ending}"
    aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    save_index(settings, aside)
    return aside


def check_save(settings: Settings, saved: Path) -> None:
    """Raise BackupError when a save is of the other engine, or damaged as far as one can see."""
    if saved.suffix != Path(saved_name(settings)).suffix:
        raise BackupError(
            f"{saved.name} was saved from another kind of database than index.url names",
            remedy="set index.url as it was when the backup was made",
        )
    if saved.suffix != ".pgdump":
        check_sqlite(saved)


def take_over(settings: Settings, made: Path, now: datetime) -> Path | None:
    """Put a new SQLite file in the place of the index; give where the former one is now."""
    # The log goes into the file first: only the file is renamed.
    connection = sqlite3.connect(made)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    check_sqlite(made)
    made.chmod(0o600)
    target = sqlite_path(settings)
    aside = put_aside(target, f"before-rebuild-{now:%Y%m%dT%H%M%SZ}")
    _durably_rename(made, target)
    return aside


def check_sqlite(file: Path) -> None:
    """Raise BackupError unless the file is a sound SQLite database."""
    try:
        with sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True) as connection:
            said = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
        connection.close()
    except sqlite3.Error as error:
        said = [str(error)]
    if said != ["ok"]:
        raise BackupError(
            f"{file} is damaged: {'; '.join(said)}", remedy="take the backup of another night"
        )


def put_aside(target: Path, ending: str) -> Path | None:
    """Rename SQLite's files out of the way; None when there was none, or an empty one.

    An empty one is what a start makes that then refuses to work on it.
    """
    if not target.exists():
        return None
    if _is_empty(target):
        for tail in ("", "-wal", "-shm"):
            Path(f"{target}{tail}").unlink(missing_ok=True)
        return None
    aside = target.with_name(f"{target.name}.{ending}")
    # The log belongs to the file: without it the last commits would be missing.
    for tail in ("-wal", "-shm"):
        if (log := Path(f"{target}{tail}")).exists():
            log.rename(f"{aside}{tail}")
    target.rename(aside)
    return aside


def _is_empty(file: Path) -> bool:
    """Say whether a file is a SQLite database without a single table; False when damaged."""
    try:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            found = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        return False
    return bool(found == (0,))


def _save_sqlite(source: Path, part: Path) -> None:
    if not source.is_file():
        raise FileNotFoundError(f"there is no index at {source}")
    reader = sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, timeout=30)
    writer = sqlite3.connect(part)
    try:
        part.chmod(0o600)
        # One step: the copy is of one moment, and writers need not wait for it (WAL).
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode=DELETE")
    finally:
        writer.close()
        reader.close()
    check_sqlite(part)


def _run_postgresql(program: str, url: sa.URL, *options: str) -> None:
    if not shutil.which(program):
        raise BackupError(
            f"{program} is not installed, so the index in PostgreSQL cannot be copied",
            remedy="apt install postgresql-client",
        )
    command = [program, "--no-password", *options]
    if program == "pg_dump":
        command += ["--dbname", _libpq(url)]
    password = {"PGPASSWORD": str(url.password)} if url.password else {}
    ended = subprocess.run(
        command,
        env={**os.environ, **password},
        capture_output=True,
        text=True,
        timeout=_DUMP_TIMEOUT_SECONDS,
        check=False,
    )
    if ended.returncode != 0:
        said = " ".join(ended.stderr.split())[:500]
        raise BackupError(
            f"{program} failed: {said}",
            remedy="try it by hand, and check index.url: brookbox doctor",
        )


def _libpq(url: sa.URL) -> str:
    """Give the URL as libpq takes it, without the password: that goes by the environment."""
    plain = url.set(drivername="postgresql", password=None)
    return plain.render_as_string(hide_password=False)


def _durably_rename(part: Path, target: Path) -> None:
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
