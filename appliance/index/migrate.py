"""The version of the schema: look at it, bring it up to date.

`brookbox up` calls `migrate`, after a backup; every other process calls
`check_version` and refuses.  A migration runs in one transaction on both
engines, so one that is killed in the middle leaves the version before it.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from appliance.errors import WrongSchema
from appliance.index.database import Database


def wanted_version() -> str:
    """Give the version that this program works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the package holds no migration"
    return head


def found_version(db: Database) -> str | None:
    """Give the version of the index as it is; None when it is empty."""
    with db.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def check_version(db: Database) -> None:
    """Refuse to work on an index of another version.

    Raises WrongSchema with the command that mends it.
    """
    found = found_version(db)
    if found == wanted_version():
        return
    if found is None:
        raise WrongSchema("the index is empty", remedy="start the node once: brookbox up")
    if found not in _known_versions():
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
    if found is not None and found not in _known_versions():
        check_version(db)
    return found != wanted_version()


def migrate(db: Database) -> None:
    """Bring the schema up to date; nothing happens when it is."""
    config = _config()
    with db.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _known_versions() -> set[str]:
    script = ScriptDirectory.from_config(_config())
    return {revision.revision for revision in script.walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def tables_of(db: Database) -> set[str]:
    """Name the tables that are there, for tests and the doctor."""
    with db.read() as connection:
        return set(sa.inspect(connection).get_table_names())
