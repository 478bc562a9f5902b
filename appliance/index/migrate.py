"""The version of the schema: look at it, bring it up to date.

`brookbox up` calls `migrate`, after a backup; every other process calls
`check_version` and refuses.  A migration runs in one transaction on both
engines, so one that is killed in the middle leaves the version before it.

Only who migrates imports Alembic: to compare two versions every process would
hold it, 110 ms and 5 MB each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from appliance.errors import NoIndex, WrongSchema
from appliance.index.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

# The migrations' names, oldest first; a test compares them with the folder's.
VERSIONS = ("0001", "0002")

# Where Alembic keeps the version.
_ALEMBIC = sa.table("alembic_version", sa.column("version_num", sa.String(32)))


def wanted_version() -> str:
    """Give the version that this program works with."""
    return VERSIONS[-1]


def found_version(db: Database) -> str | None:
    """Give the version of the index as it is; None when it is empty."""
    with db.read() as connection:
        if not sa.inspect(connection).has_table(_ALEMBIC.name):
            return None
        return connection.scalar(sa.select(_ALEMBIC.c.version_num))


def check_version(db: Database) -> None:
    """Refuse to work on an index of another version.

    Raises WrongSchema with the command that mends it.
    """
    found = found_version(db)
    if found == wanted_version():
        return
    if found is None:
        raise NoIndex("the index is empty", remedy="start the node once: brookbox up")
    if found not in VERSIONS:
        raise WrongSchema(
            f"the index has schema {found}, which is newer than this program ({wanted_version()})",
            remedy="install the version of Brookbox that made it, or restore a backup",
        )
    raise WrongSchema(
        f"the index has schema {found}, this program needs {wanted_version()}",
        remedy="stop the node and start it again: brookbox up (it migrates after a backup)",
    )


def needs_migration(db: Database) -> bool:
    """Say whether `migrate` has work to do; WrongSchema when the index is newer."""
    found = found_version(db)
    if found is not None and found not in VERSIONS:
        check_version(db)
    return found != wanted_version()


def migrate(db: Database) -> None:
    """Bring the schema up to date; nothing happens when it is."""
    from alembic import command

    config = _config()
    with db.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def tables_of(db: Database) -> set[str]:
    """Name the tables that are there, for tests and the doctor."""
    with db.read() as connection:
        return set(sa.inspect(connection).get_table_names())
