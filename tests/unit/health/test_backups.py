"""The folder of a backup: whole or not there, and no more of them than are wanted."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.disk import copies
from appliance.disk.layout import Layout
from appliance.errors import BackupError, DiskError
from appliance.health import backup_folders, backups
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


@pytest.fixture
def stream(settings: Settings) -> Path:
    """The folder of a stream that has everything a folder can have."""
    folder = settings.streams_folder / "brain"
    for name in ("models", "memory", "weights", "code/models", "code/__pycache__", ".git"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text(name)
    (folder / "info.json").write_text(json.dumps({"AETitle": "BRAIN", "models": "./weights"}))
    (folder / "work.sh").write_text("#!/bin/sh\n")
    (folder / "work.sh").chmod(0o755)
    with (folder / "large").open("wb") as large:
        large.truncate(100_000_001)
    return folder


def whole_backup(folder: Path, made_at: datetime) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"made_at": made_at.isoformat()}))
    return folder


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_the_newest_nightly_ones_are_kept(tmp_path: Path) -> None:
    for day in range(1, 10):
        whole_backup(tmp_path / f"nightly-2026030{day}T020000Z", NOW + timedelta(days=day))
    whole_backup(tmp_path / "before-0002-20260301T020000Z", NOW)
    backup_folders.remove_old_nightly(tmp_path, keep=3)
    left = {path.name for path in tmp_path.iterdir()}
    newest = {f"nightly-2026030{day}T020000Z" for day in (7, 8, 9)}
    assert left == {"before-0002-20260301T020000Z"} | newest


def test_where_no_node_ran_a_backup_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no index") as caught:
        backups.make_backup(Settings(home=tmp_path / "home"), tmp_path / "to" / "there", NOW)
    assert "--home" in caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_backup_that_fails_leaves_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backups, "save_streams", fail)
    with pytest.raises(DiskError, match="No space"):
        backups.make_backup(settings, tmp_path / "to" / "there", NOW)
    assert not (tmp_path / "to").exists()


def test_a_backup_into_what_it_copies_is_refused(settings: Settings) -> None:
    for folder in (settings.streams_folder, settings.data_root / "studies" / "x"):
        with pytest.raises(BackupError, match="backed up itself"):
            backups.make_backup(settings, folder, NOW)


# -- streams -----------------------------------------------------------------------------------


def test_a_stream_is_whole_but_for_what_is_large(
    settings: Settings, stream: Path, tmp_path: Path
) -> None:
    made = backups.make_backup(settings, tmp_path, NOW)
    saved = made.folder / "streams" / "brain"
    assert files_in(saved) == {"info.json", "work.sh", "code/models/file"}
    assert (saved / "work.sh").stat().st_mode & 0o777 == 0o755
    assert {one.path for one in made.left_out} == {
        f"streams/brain/{name}" for name in ("models", "memory", "weights", ".git", "large")
    }
    facts = json.loads((made.folder / "manifest.json").read_text())
    assert facts["left_out"] == [{"path": one.path, "why": one.why} for one in made.left_out]
    assert backups.read_backup(made.folder) == made


def test_with_files_a_stream_is_whole(settings: Settings, stream: Path, tmp_path: Path) -> None:
    made = backups.make_backup(settings, tmp_path, NOW, with_files=True)
    names = {"info.json", "work.sh", "large"}
    folders = {f"{name}/file" for name in ("models", "memory", "weights", "code/models")}
    assert files_in(made.folder / "streams" / "brain") == names | folders
    assert [one.path for one in made.left_out] == ["streams/brain/.git"]


def test_what_a_link_leads_to_is_no_part_of_a_stream(
    settings: Settings, stream: Path, tmp_path: Path
) -> None:
    (stream / "passwd").symlink_to("/etc/passwd")
    made = backups.make_backup(settings, tmp_path, NOW)
    assert "streams/brain/passwd" in {one.path for one in made.left_out}
    assert not list(made.folder.rglob("passwd"))


def test_a_stream_that_is_there_stays_and_one_that_is_not_comes_back(
    settings: Settings, stream: Path, tmp_path: Path
) -> None:
    (settings.streams_folder / "other").mkdir()
    (settings.streams_folder / "other" / "info.json").write_text("old")
    made = backups.make_backup(settings, tmp_path, NOW)
    shutil.rmtree(stream)
    (settings.streams_folder / "other" / "info.json").write_text("new")
    done = backups.restore_backup(settings, backups.read_backup(made.folder), NOW)
    assert (done.streams.back, done.streams.left) == (("brain",), ("other",))
    assert files_in(stream) == {"info.json", "work.sh", "code/models/file"}
    assert (stream / "work.sh").stat().st_mode & 0o777 == 0o755
    assert (settings.streams_folder / "other" / "info.json").read_text() == "new"
    assert {path.name for path in settings.streams_folder.iterdir()} == {"brain", "other"}


# -- killed in the middle ----------------------------------------------------------------------


def test_what_a_killed_backup_left_goes_with_the_next(settings: Settings, tmp_path: Path) -> None:
    left = tmp_path / "brookbox-20260228T020000Z.part"
    left.mkdir()
    (left / "manifest.json").touch()
    others = tmp_path / "mine.part"
    others.mkdir()
    made = backups.make_backup(settings, tmp_path, NOW)
    assert set(tmp_path.iterdir()) == {made.folder, others, settings.home}


def test_a_backup_that_is_being_made_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    to = tmp_path / "to"
    with backup_folders.making(to / "nightly-20260301T020000Z") as part:
        made = backups.make_backup(settings, to, NOW)
        assert backup_folders.leftovers(to) == [part]
        assert [one.folder for one in backup_folders.found_in(to)] == [made.folder]
        part.joinpath("manifest.json").write_text(json.dumps({"made_at": NOW.isoformat()}))
    assert not backup_folders.leftovers(to)
    assert len(backup_folders.found_in(to)) == 2


def test_all_of_a_backup_is_synced_before_it_gets_its_name(
    settings: Settings, stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[Path] = set()

    def note(path: Path) -> None:
        synced.add(path)

    monkeypatch.setattr(copies, "sync_path", note)
    made = backups.make_backup(settings, tmp_path / "to", NOW, with_files=True)
    part = made.folder.with_name(f"{made.folder.name}.part")
    paths = {path.relative_to(made.folder) for path in made.folder.rglob("*")}
    assert {part / path for path in paths} | {part} <= synced


# -- which one ---------------------------------------------------------------------------------


def test_of_a_folder_with_backups_none_is_taken_and_the_newest_is_named(tmp_path: Path) -> None:
    whole_backup(tmp_path / "nightly-20260301T020000Z", NOW)
    newest = whole_backup(tmp_path / "brookbox-20260302T020000Z", NOW + timedelta(days=1))
    part = whole_backup(tmp_path / "nightly-20260303T020000Z.part", NOW + timedelta(days=2))
    with pytest.raises(BackupError, match="holds 2 backups") as caught:
        backups.read_backup(tmp_path)
    assert caught.value.remedy == f"brookbox restore {newest}"
    (part / "manifest.json").write_text("")
    with pytest.raises(BackupError, match="did not end"):
        backups.read_backup(part)


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


# -- made while the node goes on ---------------------------------------------------------------


def before_copy(
    number: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], int]:
    """Have something done just before the copy of so many a folder; how many there were tells."""
    real, copied = backups.copy_tree, []

    def copy(source: Path, target: Path, **words: bool) -> copies.Copied:
        if len(copied) == number:
            act()
        copied.append(source.name)
        return real(source, target, **words)

    monkeypatch.setattr(backups, "copy_tree", copy)
    return lambda: len(copied)


@pytest.mark.parametrize("number", range(5))
def test_ft_37_no_job_has_its_record_in_a_backup_without_its_results(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    layout = Layout(settings.data_root)

    def end_job() -> None:
        (layout.studies / "result.dcm").touch()
        layout.job(1).path.mkdir()
        layout.job(1).record.touch()

    count = before_copy(number, end_job, monkeypatch)
    made = backups.make_backup(settings, tmp_path / "to", NOW, with_files=True).folder
    assert count() == 5, "there is no moment that this test leaves out"
    if (made / "data" / "jobs" / "1").exists():
        assert (made / "data" / "studies" / "result.dcm").exists()
    assert (made / "data" / "studies" / "result.dcm").exists() == (number < 3)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize(
    ("source", "target"), [("quarantine", "studies"), ("studies", "quarantine")]
)
def test_ft_37_what_moves_during_a_backup_is_in_it(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    source: str,
    target: str,
) -> None:
    here, there = (settings.data_root / name / "one.dcm" for name in (source, target))
    here.touch()
    before_copy(number, lambda: here.rename(there), monkeypatch)
    made = backups.make_backup(settings, tmp_path / "to", NOW, with_files=True)
    found = {path.parent.name for path in (made.folder / "data").rglob("one.dcm")}
    assert found
    assert found <= {"quarantine", "studies"}
    assert backups.read_backup(made.folder) == made


def test_what_is_left_out_of_a_folder_that_is_copied_twice_is_named_once(
    settings: Settings, tmp_path: Path
) -> None:
    (settings.data_root / "quarantine" / "passwd").symlink_to("/etc/passwd")
    made = backups.make_backup(settings, tmp_path / "to", NOW, with_files=True)
    assert [one.path for one in made.left_out] == ["data/quarantine/passwd"]
