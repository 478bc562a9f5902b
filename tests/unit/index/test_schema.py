"""The schema: what migrations make is what the code knows; other versions are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from appliance.errors import IndexUnavailable, WrongSchema
from appliance.index import database, migrate, partial_indexes, schema
from appliance.index.database import Database
from appliance.settings import Index, Settings


def test_migrations_make_the_tables_that_the_code_knows(db: Database) -> None:
    with db.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, partial_indexes.metadata) == []


def test_ft_28_an_empty_index_is_refused_with_what_to_type(index_settings: Settings) -> None:
    with pytest.raises(WrongSchema) as caught:
        database.open_index(index_settings)
    assert "brookbox up" in caught.value.remedy


def test_ft_28_a_newer_index_is_refused(index_settings: Settings) -> None:
    db = database.connect(index_settings)
    migrate.migrate(db)
    with db.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    db.close()
    with pytest.raises(WrongSchema, match="newer"):
        database.open_index(index_settings)


def test_migrating_twice_changes_nothing(db: Database) -> None:
    assert not migrate.needs_migration(db)
    migrate.migrate(db)
    assert migrate.found_version(db) == migrate.wanted_version()


def test_sqlite_is_durable_and_checks_foreign_keys(tmp_path: object) -> None:
    db = database.connect(Settings(home=tmp_path))  # type: ignore[arg-type]
    with db.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    db.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_ft_29_a_time_without_zone_is_a_mistake(db: Database) -> None:
    with pytest.raises(sa.exc.StatementError), db.write() as connection:
        connection.execute(
            sa.insert(schema.switches).values(ae_title="A", who="x", at=datetime(2026, 1, 1))
        )


def test_ft_27_a_server_that_is_away_is_an_unavailable_index(tmp_path: object) -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:1/none"
    db = database.connect(Settings(home=tmp_path, index=Index(url=url)))  # type: ignore[arg-type]
    with pytest.raises(IndexUnavailable), db.read():
        pass


def test_what_goes_wrong_names_no_patient(db: Database) -> None:
    """The words of an error end in the log, with the traceback."""
    now = datetime.now(UTC)
    one = {"study_uid": "1.2", "patient_name": "Seeded^Name", "first_received_at": now}
    one |= {"last_received_at": now}
    with pytest.raises(sa.exc.IntegrityError) as error, db.write() as connection:
        connection.execute(sa.insert(schema.studies), [one])
        connection.execute(sa.insert(schema.studies), [one])
    assert "Seeded" not in str(error.value)


def test_ft_27_an_index_that_may_only_be_read_is_unavailable(db: Database) -> None:
    """A PostgreSQL that was failed over to a standby, a file system that went read-only."""
    read_only = "PRAGMA query_only=1" if db.is_sqlite else "SET default_transaction_read_only=on"

    def on_connect(connection: Any, record: object) -> None:
        connection.execute(read_only)
        connection.commit()

    db.engine.dispose()
    sa.event.listen(db.engine, "connect", on_connect)
    with pytest.raises(IndexUnavailable), db.write() as connection:
        connection.execute(sa.delete(schema.studies))


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    index = Index(url="postgresql+psycopg://u@db/b", password_file="nowhere")
    with pytest.raises(IndexUnavailable, match="nowhere"):
        database.connect(Settings(home=tmp_path, index=index))
