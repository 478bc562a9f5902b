"""The index is saved and put back, on both engines."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import BackupError
from appliance.index import backup, database, events, migrate
from appliance.index.database import Database
from appliance.settings import Index, Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def add_event(db: Database, sentence: str) -> None:
    with db.write() as connection:
        events.append(connection, "test", sentence, NOW)


def sentences(db: Database) -> list[str]:
    with db.read() as connection:
        return [event.sentence for event in events.latest(connection, 1000)]


def test_what_was_saved_comes_back(db: Database, index_settings: Settings, tmp_path: Path) -> None:
    add_event(db, "before")
    saved = tmp_path / backup.saved_name(index_settings)
    backup.save_index(index_settings, saved)
    add_event(db, "after")
    db.close()
    backup.load_index(index_settings, saved, NOW)
    again = database.open_index(index_settings)
    assert sentences(again) == ["before"]
    again.close()


def test_ft_37_a_save_while_others_write_is_of_one_moment(
    db: Database, index_settings: Settings, tmp_path: Path
) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with db.write() as connection:
                for half in ("one", "two"):
                    events.append(connection, "test", half, NOW)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        saved = tmp_path / backup.saved_name(index_settings)
        for _ in range(5):
            backup.save_index(index_settings, saved)
    finally:
        stop.set()
        writer.join()
    db.close()
    backup.load_index(index_settings, saved, NOW)
    again = database.open_index(index_settings)
    found = sentences(again)
    assert found.count("one") == found.count("two")
    again.close()


def test_the_former_sqlite_file_stays_beside_the_new_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    db = database.connect(settings)
    migrate.migrate(db)
    db.close()
    saved = tmp_path / "index.sqlite3"
    backup.save_index(settings, saved)
    aside = backup.load_index(settings, saved, NOW)
    assert aside is not None and aside.exists()
    assert aside.name == "index.sqlite3.before-restore-20260301T000000Z"


def test_a_damaged_save_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    saved = tmp_path / "index.sqlite3"
    saved.write_bytes(b"no database" * 1000)
    with pytest.raises(BackupError, match="damaged"):
        backup.load_index(settings, saved, NOW)


def test_a_save_of_the_other_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="another kind of database"):
        backup.load_index(Settings(home=tmp_path), tmp_path / "index.pgdump", NOW)


def test_nothing_stays_of_a_save_that_fails(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no index"):
        backup.save_index(Settings(home=tmp_path), tmp_path / "index.sqlite3")
    assert not list(tmp_path.iterdir())


def test_where_no_index_is_there_is_nothing_to_save(index_settings: Settings) -> None:
    assert backup.why_nothing(index_settings)
    assert not (index_settings.home / "data").exists()


def test_of_an_index_there_is_something_to_save(db: Database, index_settings: Settings) -> None:
    assert backup.why_nothing(index_settings) == ""


def test_the_file_that_the_url_names_is_the_one_that_is_saved(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.sqlite3"
    settings = Settings(home=tmp_path, index=Index(url=f"sqlite:///{elsewhere}"))
    assert str(elsewhere) in backup.why_nothing(settings)
    db = database.connect(settings)
    migrate.migrate(db)
    db.close()
    assert backup.why_nothing(settings) == ""
