"""How an instance is made durable: chosen from measured times, and every failure is told."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from appliance.disk import commit, sync
from appliance.disk.commit import Commit, Method, Times, choose, in_words, stands_alone
from appliance.disk.folders import Folders
from appliance.disk.layout import Layout
from appliance.errors import NoSpace, SyncFailed
from tests.kit.waiting import wait_for


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.make()
    return layout


@pytest.mark.parametrize(
    ("waiting", "is_alone", "times", "wanted"),
    [
        (1, True, Times(0.5, 0.001), Method.FILES),  # alone there is nothing to share
        (2, True, Times(), Method.TOGETHER),
        (2, False, Times(), Method.FILES),
        (9, True, Times(0.001, None), Method.TOGETHER),
        (9, False, Times(None, 0.001), Method.FILES),
        (2, True, Times(0.001, 0.02), Method.FILES),  # somebody else writes a lot there
        (2, False, Times(0.02, 0.001), Method.TOGETHER),
    ],
)
def test_the_faster_way_is_chosen_and_without_times_the_safer_guess(
    waiting: int, is_alone: bool, times: Times, wanted: Method
) -> None:
    assert choose(waiting, is_alone, times) is wanted


def test_the_choice_is_told_in_words() -> None:
    assert "jobs, logs or the index write" in in_words(False, Times())
    assert "nothing but what is received" in in_words(True, Times())
    told = in_words(False, Times(0.0012, 0.02))
    assert told.startswith("each file is synced by itself")
    assert "1.2 ms" in told
    assert "20.0 ms" in told


def test_whether_it_stands_alone_is_asked_of_what_is_not_there_yet(
    layout: Layout, tmp_path: Path
) -> None:
    assert not stands_alone(layout.studies, (layout.root / "not" / "there",))
    assert stands_alone(layout.studies, (Path("/proc/self"),))


def of(layout: Layout, name: str) -> tuple[int, Folders]:
    folders = Folders(layout)
    folder = folders.find("1.2", "1.3")
    descriptor = os.open(folder.path / name, os.O_WRONLY | os.O_CREAT)
    return descriptor, folders


def test_a_file_and_every_folder_that_is_new_are_synced(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(sync.os, "fsync", note)
    monkeypatch.setattr(sync.os, "fdatasync", note)
    descriptor, folders = of(layout, "a.dcm")
    one = Commit(layout, ())
    incoming = os.open(layout.incoming, os.O_RDONLY)
    one.file(descriptor, folders.find("1.2", "1.3"), incoming)
    series = folders.find("1.2", "1.3").path
    wanted = [series / "a.dcm", series, series.parent, series.parent.parent, layout.studies]
    assert synced[: len(wanted)] == [str(path) for path in wanted]
    assert str(layout.root) in synced
    synced.clear()
    one.file(descriptor, folders.find("1.2", "1.3"), incoming)
    assert synced[:2] == [str(series / "a.dcm"), str(series)]
    assert str(layout.studies) not in synced
    os.close(descriptor)
    os.close(incoming)
    one.close()


def test_where_names_are_not_journalled_in_order_incoming_is_synced_too(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(commit, "file_system_of", lambda folder: "strange")
    one = Commit(layout, ())
    descriptor, folders = of(layout, "a.dcm")
    incoming = os.open(layout.incoming, os.O_RDONLY)
    monkeypatch.setattr(sync.os, "fsync", synced.append)
    one.file(descriptor, folders.find("1.2", "1.3"), incoming)
    assert incoming in synced
    for one_descriptor in (descriptor, incoming):
        os.close(one_descriptor)
    one.close()


class Held:
    """A syncfs that waits until it is let go; `result` is what it gives."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = threading.Semaphore(0)
        self.result = 0

    def __call__(self, descriptor: int) -> int:
        self.calls += 1
        assert self.go.acquire(timeout=60)
        return self.result


@pytest.mark.parametrize("result", [0, -1])
def test_all_that_wait_share_one_sync_that_began_after_them_and_its_failure(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, result: int
) -> None:
    held = Held()
    monkeypatch.setattr(commit, "_syncfs", held)
    monkeypatch.setattr(commit, "choose", lambda *facts: Method.TOGETHER)
    one = Commit(layout, ())
    folder = Folders(layout).find("1.2", "1.3")
    done: list[str] = []

    def wait(name: str) -> None:
        try:
            one.file(-1, folder, -1)
            done.append(name)
        except SyncFailed:
            done.append(f"{name} failed")

    threads = [threading.Thread(target=wait, args=("first",))]
    threads[0].start()
    wait_for(lambda: held.calls == 1, "the first one's sync has begun")
    threads += [threading.Thread(target=wait, args=("later",)) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    wait_for(lambda: one._waiting == 4, "the others wait too")
    held.go.release()
    wait_for(lambda: held.calls == 2, "one sync for all the others has begun")
    assert done == ["first"]  # what came meanwhile is not covered by that sync
    held.result = result
    held.go.release()
    for thread in threads:
        thread.join(60)
    assert held.calls == 2
    assert sorted(done[1:]) == (["later"] * 3 if result == 0 else ["later failed"] * 3)
    one.close()


def test_a_real_syncfs_and_a_real_failure(layout: Layout) -> None:
    descriptor = os.open(layout.studies, os.O_RDONLY)
    commit.sync_file_system(descriptor)
    os.close(descriptor)
    with pytest.raises(SyncFailed, match="Bad file descriptor"):
        commit.sync_file_system(descriptor)


def test_no_space_at_a_sync_is_no_space(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sync.os, "fdatasync", full)
    with pytest.raises(NoSpace):
        sync.sync_data(3)


def test_now_and_then_the_other_way_is_tried(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Commit(layout, (layout.jobs,))
    one._waiting = 2
    monkeypatch.setattr(commit, "_TRIAL_SECONDS", 0.0)
    chosen = [one._method() for _ in range(1000)]
    assert chosen.count(Method.TOGETHER) == 2
    one._note(Method.FILES, 0.02)
    one._note(Method.TOGETHER, 0.001)
    assert one._method() is Method.TOGETHER
    assert "shared sync" in one.says
    one.close()


def test_a_folder_that_was_moved_or_removed_is_not_in_place(layout: Layout) -> None:
    folders = Folders(layout)
    folder = folders.find("1.2", "1.3")
    assert folder.is_in_place()
    folder.path.rename(layout.trash / "moved")
    assert not folder.is_in_place()
    folders.forget(folder)
    again = folders.find("1.2", "1.3")
    assert again.is_in_place()
    again.path.rmdir()
    assert not again.is_in_place()
