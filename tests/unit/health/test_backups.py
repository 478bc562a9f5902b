"""The folder of a backup: whole or not there, and no more of them than are wanted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.disk.layout import Layout
from appliance.errors import BackupError
from appliance.health import backups
from appliance.index import database, migrate
from appliance.settings import Settings

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home")
    Layout(settings.data_root).make()
    db = database.connect(settings)
    migrate.migrate(db)
    db.close()
    return settings


def test_only_the_newest_nightly_ones_are_kept(tmp_path: Path) -> None:
    for day in range(1, 10):
        (tmp_path / f"nightly-2026030{day}T020000Z").mkdir()
    (tmp_path / "before-0002-20260301T020000Z").mkdir()
    backups.remove_old_nightly(tmp_path, keep=3)
    left = {path.name for path in tmp_path.iterdir()}
    newest = {f"nightly-2026030{day}T020000Z" for day in (7, 8, 9)}
    assert left == {"before-0002-20260301T020000Z"} | newest


def test_a_backup_that_fails_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    (settings.data_root / "index.sqlite3").unlink()
    with pytest.raises(BackupError):
        backups.make_backup(settings, tmp_path / "to", NOW)
    assert list((tmp_path / "to").iterdir()) == []


def test_what_is_copied_with_files_is_no_link_to_a_log_that_grows(
    settings: Settings, tmp_path: Path
) -> None:
    layout = Layout(settings.data_root)
    layout.job(1).path.mkdir()
    layout.job(1).log.write_text("one\n")
    made = backups.make_backup(settings, tmp_path, NOW, with_files=True)
    with layout.job(1).log.open("a") as log:
        log.write("two\n")
    again = backups.read_backup(made.folder)
    assert (again.folder / "data" / "jobs" / "1" / "processing.log").read_text() == "one\n"


def test_a_folder_that_is_no_backup_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is not a backup"):
        backups.read_backup(tmp_path)
