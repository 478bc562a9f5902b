"""Which data folder an index belongs to: two folders on one index would lose each other's files.

The folder has its name in `index.id`, the index has it in one row; `brookbox up` gives
it, `open_index` compares.  An index that stands in the folder itself goes where the
folder goes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from appliance.errors import BackupError, WrongFolder
from appliance.ids import new_id
from appliance.index import beats
from appliance.index import schema as t
from appliance.index.database import Database, insert_new
from appliance.settings import Settings

_ALIVE = timedelta(seconds=60)


def claim(db: Database, settings: Settings) -> None:
    """Give the index its folder, or see that it has this one; WrongFolder when it has another."""
    with db.write() as connection:
        db.lock(connection, "data folder")
        owner = _owner(connection)
        if owner is None or not settings.index.url:
            _write(connection, settings)
        elif owner[0] != _name(settings):
            raise _another(owner[1], settings)


def adopt(db: Database, settings: Settings) -> None:
    """Give the index to this folder, whosever it was; that one's node does not start any more.

    What the node's processes said of themselves was said of another node, or long ago.
    """
    with db.write() as connection:
        connection.execute(sa.delete(t.beats))
        _write(connection, settings)


def check(db: Database, settings: Settings) -> None:
    """Raise WrongFolder when the index, one that stands elsewhere, is that of another folder."""
    if not settings.index.url:
        return
    with db.read() as connection:
        owner = _owner(connection)
    if owner is not None and owner[0] != _name(settings):
        raise _another(owner[1], settings)


def check_idle(db: Database, now: datetime) -> None:
    """Raise BackupError when a node was heard of lately, on this machine or another."""
    with db.read() as connection:
        if not sa.inspect(connection).has_table(t.beats.name):
            return
        heard = [one for one in beats.all_beats(connection) if abs(now - one.at) < _ALIVE]
    if heard:
        names = ", ".join(f"{one.name} ({one.process})" for one in heard[:3])
        raise BackupError(
            f"a node works on this index: {names}",
            remedy="stop it; when it was killed, wait a minute",
        )


def _owner(connection: sa.Connection) -> tuple[str, str] | None:
    row = connection.execute(sa.select(t.data_folder.c.id, t.data_folder.c.path)).first()
    return (row.id, row.path) if row else None


def _write(connection: sa.Connection, settings: Settings) -> None:
    file = _file(settings)
    name = _name(settings)
    if not name:
        name = new_id()
        file.write_text(name + "\n", "ascii")
    connection.execute(sa.delete(t.data_folder))
    insert_new(connection, t.data_folder, {"id": name, "path": str(settings.data_root.absolute())})


def _name(settings: Settings) -> str:
    try:
        return _file(settings).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _file(settings: Settings) -> Path:
    return settings.data_root / "index.id"


def _another(path: str, settings: Settings) -> WrongFolder:
    return WrongFolder(
        f"the index at index.url belongs to another data folder, {path}, not to "
        f"{settings.data_root.absolute()}",
        remedy="name another database in index.url; or, when this folder holds those files now "
        "and no other node uses the index: brookbox index adopt",
    )
