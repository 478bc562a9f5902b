"""A copied tree: regular files, durable, nothing replaced, no link followed, nothing unnamed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from appliance.disk import copies
from appliance.disk.copies import LeftOut, copy_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "work.sh").write_text("#!/bin/sh\n")
    (source / "inner" / "work.sh").chmod(0o755)
    (source / "text").write_text("text")
    os.utime(source / "text", (1000, 2000))
    return source


def test_modes_and_times_are_kept(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert copy_tree(source, target).files == 2
    assert (target / "inner" / "work.sh").stat().st_mode & 0o777 == 0o755
    assert (target / "text").stat().st_mtime == 2000
    assert (target / "inner").stat().st_mode == (source / "inner").stat().st_mode
    assert sorted(path.name for path in target.iterdir()) == ["inner", "text"]


def test_the_rights_of_another_user_are_not_copied(source: Path, tmp_path: Path) -> None:
    (source / "text").chmod(0o4755)
    copy_tree(source, tmp_path / "target")
    assert (tmp_path / "target" / "text").stat().st_mode & 0o7777 == 0o755


def test_what_is_there_stays(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "text").write_text("mine")
    assert copy_tree(source, target).files == 1
    assert (target / "text").read_text() == "mine"


def test_a_link_is_named_and_neither_copied_nor_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (source / "file").symlink_to(tmp_path / "secret")
    (source / "folder").symlink_to(tmp_path)
    os.mkfifo(source / "pipe")
    copied = copy_tree(source, tmp_path / "target")
    assert copied.left_out == [
        LeftOut("file", "it is a link"),
        LeftOut("folder", "it is a link"),
        LeftOut("pipe", "it is not a regular file"),
    ]
    assert not (tmp_path / "target" / "file").exists()


def test_a_link_at_the_target_is_not_followed(source: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    (target / "inner").symlink_to(elsewhere)
    with pytest.raises(OSError, match="inner"):
        copy_tree(source, target)
    assert not list(elsewhere.iterdir())


def test_folders_without_end_are_left_out(source: Path, tmp_path: Path) -> None:
    deep = source.joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    (deep / "file").touch()
    [left] = copy_tree(source, tmp_path / "target").left_out
    assert left.why == "it is nested too deep"


def test_what_may_be_linked_is_one_file(source: Path, tmp_path: Path) -> None:
    copy_tree(source, tmp_path / "target", may_link=True)
    assert (tmp_path / "target" / "text").samefile(source / "text")


def test_a_copy_that_was_killed_is_finished_by_the_next(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "target"
    monkeypatch.setattr(copies.os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        copy_tree(source, target)
    assert not list(target.rglob("work.sh"))
    monkeypatch.undo()
    assert copy_tree(source, target).files == 2
    assert len([path for path in target.rglob("*") if path.is_file()]) == 2


def test_every_file_and_folder_is_synced(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_tree(source, tmp_path / "target")
    synced: list[Path] = []
    monkeypatch.setattr(copies, "sync_path", synced.append)
    copies.sync_tree(tmp_path / "target")
    assert set(synced) == {tmp_path / "target", *(tmp_path / "target").rglob("*")}
    assert synced[-1] == tmp_path / "target"


def test_a_source_that_is_not_there_gives_nothing(tmp_path: Path) -> None:
    assert copy_tree(tmp_path / "none", tmp_path / "target").files == 0
    assert not (tmp_path / "target").exists()


def test_a_second_pass_adds_what_came_and_keeps_what_went(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    copy_tree(source, target, may_link=True)
    first = (target / "text").stat()
    (source / "inner" / "new").write_text("new")
    (source / "later").mkdir()
    (source / "later" / "file").write_text("file")
    (source / "inner" / "work.sh").unlink()
    (source / "text").rename(source / "old")
    (source / "text").write_text("changed")
    copied = copy_tree(source, target, may_link=True)
    assert (copied.files, copied.left_out) == (3, [])
    assert (target / "text").stat().st_ino == first.st_ino
    assert (target / "text").read_text() == "text"
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {"inner/new", "inner/work.sh", "later/file", "old", "text"}


@pytest.mark.parametrize(("moment", "may_link"), [("stat", False), ("open", False), ("link", True)])
def test_what_is_removed_while_it_is_copied_is_left_out_unnamed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, may_link: bool
) -> None:
    real = getattr(os, moment)

    def removed_before(name: Any, *args: Any, **words: Any) -> Any:
        if name == "text":
            (source / "text").unlink(missing_ok=True)
        return real(name, *args, **words)

    monkeypatch.setattr(copies.os, moment, removed_before)
    copied = copy_tree(source, tmp_path / "target", may_link=may_link)
    assert (copied.files, copied.left_out) == (1, [])
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["inner"]


def test_a_folder_that_is_removed_while_it_is_open_is_left_out_unnamed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.listdir

    def removed_before(folder: int) -> list[str]:
        if os.path.samestat(os.fstat(folder), inner):
            shutil.rmtree(source / "inner")
            raise FileNotFoundError  # so says ext4, other file systems list nothing
        return real(folder)

    inner = (source / "inner").stat()
    monkeypatch.setattr(copies.os, "listdir", removed_before)
    copied = copy_tree(source, tmp_path / "target")
    monkeypatch.undo()
    assert (copied.files, copied.left_out) == (1, [])
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["text"]
