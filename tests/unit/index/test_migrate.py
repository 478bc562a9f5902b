"""An earlier schema is brought up to date; a migration killed in the middle is repeated."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from appliance.errors import WrongSchema
from appliance.index import database, migrate, partial_indexes, schema
from appliance.index.database import Database
from appliance.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 1, 2, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
EARLIER = ["0001"]


def former(settings: Settings, version: str) -> Database:
    """Make an index of an earlier schema, with a study in it."""
    db = database.connect(settings)
    config = migrate._config()
    with db.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        columns = [column["name"] for column in sa.inspect(connection).get_columns("studies")]
        values = {name: NOW if name.endswith("_at") else "1.2.3" for name in columns}
        names = ", ".join(values)
        places = ", ".join(f":{name}" for name in values)
        connection.execute(sa.text(f"INSERT INTO studies ({names}) VALUES ({places})"), values)
    return db


def test_the_known_versions_are_the_migrations_of_the_folder() -> None:
    script = ScriptDirectory.from_config(migrate._config())
    newest_first = [revision.revision for revision in script.walk_revisions()]
    assert tuple(reversed(newest_first)) == migrate.VERSIONS


def holds_the_study(db: Database) -> bool:
    with db.read() as connection:
        return connection.scalar(sa.select(schema.studies.c.study_uid)) == "1.2.3"


@pytest.mark.parametrize("version", EARLIER)
def test_an_earlier_schema_becomes_todays_with_its_rows(
    index_settings: Settings, version: str
) -> None:
    db = former(index_settings, version)
    with pytest.raises(WrongSchema, match="this program needs"):
        migrate.check_version(db)
    migrate.migrate(db)
    with db.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, partial_indexes.metadata) == []
    assert holds_the_study(db)
    db.close()


@pytest.mark.parametrize("version", EARLIER)
def test_a_migration_killed_in_the_middle_is_repeated(
    index_settings: Settings, version: str
) -> None:
    db = former(index_settings, version)
    db.close()
    # It stops in its last table: everything before is done by then, and nothing committed.
    code = f"""
    import time
    from pathlib import Path
    import alembic.op
    from appliance.index import database, migrate
    from appliance.settings import Index, Settings
    make = alembic.op.create_table
    def and_stop(name, *parts, **options):
        made = make(name, *parts, **options)
        if name == "samples":
            print("in the middle", flush=True)
            time.sleep(600)
        return made
    alembic.op.create_table = and_stop
    home, index = Path({str(index_settings.home)!r}), Index(url={index_settings.index.url!r})
    migrate.migrate(database.connect(Settings(home=home, index=index)))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"in the middle\n"
    process.send_signal(signal.SIGKILL)
    process.wait()

    db = database.connect(index_settings)
    assert migrate.found_version(db) == version
    assert "samples" not in migrate.tables_of(db)
    migrate.migrate(db)
    assert migrate.found_version(db) == migrate.wanted_version()
    assert holds_the_study(db)
    db.close()
