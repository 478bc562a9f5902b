from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.disk import incoming, quarantine, space, sync
from appliance.disk.incoming import Incoming
from appliance.disk.layout import Layout
from appliance.disk.space import Space
from appliance.disk.studies import Studies
from appliance.errors import NoSpace, NotFound, SyncFailed

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NAME = "studies/ab/1.2/1.3/1.4.dcm"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.make()
    return layout


def test_a_written_file_is_whole_and_readable_by_a_container(layout: Layout) -> None:
    written = Incoming(layout.incoming).write(b"head", memoryview(b"body"), "a1")
    facts = written.path.stat()
    assert written.path.read_bytes() == b"headbody"
    assert written.size_bytes == 8
    assert stat.S_IMODE(facts.st_mode) == 0o440
    assert facts.st_gid == (incoming.NOBODY if os.geteuid() == 0 else os.getegid())
    assert incoming.association_of(written.path) == "a1"


def test_a_received_value_never_becomes_a_file_name(layout: Layout) -> None:
    written = Incoming(layout.incoming).write(b"", memoryview(b"x"), "../../evil")
    assert written.path.name.startswith(".")
    assert "evil" not in written.path.name
    assert written.path.parent.parent == layout.incoming


def test_a_full_volume_is_no_space_and_leaves_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Incoming(layout.incoming)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NoSpace):
        mine.write(b"head", memoryview(b"body"), "a1")
    monkeypatch.setattr(os, "write", real)
    assert [path for path in layout.incoming.rglob("*") if path.is_file()] == []


def test_a_failed_sync_is_said_and_not_tried_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def broken(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(5, "Input/output error")

    mine = Incoming(layout.incoming)
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(SyncFailed):
        mine.write(b"head", memoryview(b"body"), "a1")
    with pytest.raises(SyncFailed):
        sync.sync_path(layout.studies)
    assert len(calls) == 2


def test_only_the_folders_of_dead_processes_are_abandoned(layout: Layout) -> None:
    living = Incoming(layout.incoming)
    living.write(b"", memoryview(b"x"), "a1")
    code = (
        "import sys; from pathlib import Path; from appliance.disk.incoming import Incoming\n"
        "mine = Incoming(Path(sys.argv[1])); mine.write(b'', memoryview(b'dead'), 'a2')\n"
        "print(flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(layout.incoming)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout is not None
    other.stdout.readline()
    assert list(incoming.abandoned(layout.incoming)) == []
    other.kill()
    other.communicate()
    found = [path.read_bytes() for one in incoming.abandoned(layout.incoming)
             for path in incoming.files_in(one)]  # fmt: skip
    assert found == [b"dead"]


def test_a_half_written_file_is_swept_with_its_dead_process(layout: Layout) -> None:
    dead = layout.incoming / "p-1"
    dead.mkdir()
    (dead / "a1.1.part").write_bytes(b"half")
    assert [incoming.files_in(folder) for folder in incoming.abandoned(layout.incoming)] == [[]]
    assert not dead.exists()


def test_two_adopters_never_have_the_same_folder(layout: Layout) -> None:
    (layout.incoming / "p-1").mkdir()
    first = incoming.abandoned(layout.incoming)
    assert next(first).name == "p-1"
    assert list(incoming.abandoned(layout.incoming)) == []
    first.close()  # type: ignore[attr-defined]


def test_a_link_never_replaces(layout: Layout) -> None:
    mine, studies = Incoming(layout.incoming), Studies(layout)
    one = mine.write(b"", memoryview(b"one"), "a1")
    two = mine.write(b"", memoryview(b"two"), "a1")
    assert studies.link(one.path, NAME)
    assert not studies.link(two.path, NAME)
    assert studies.path(NAME).read_bytes() == b"one"


def test_every_folder_that_leads_to_a_new_name_is_synced(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, studies = Incoming(layout.incoming), Studies(layout)
    synced: list[str] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    written = mine.write(b"", memoryview(b"one"), "a1")
    studies.link(written.path, NAME)
    monkeypatch.setattr(os, "fsync", spy)
    studies.sync(NAME)
    root = str(layout.root)
    wanted = ["", "/studies", "/studies/ab", "/studies/ab/1.2", "/studies/ab/1.2/1.3"]
    assert set(synced) == {root + part for part in wanted}


def test_a_series_folder_that_was_removed_is_made_and_synced_again(layout: Layout) -> None:
    mine, studies = Incoming(layout.incoming), Studies(layout)
    written = mine.write(b"", memoryview(b"one"), "a1")
    studies.link(written.path, NAME)
    studies.sync(NAME)
    studies.path(NAME).unlink()
    studies.path(NAME).parent.rmdir()
    assert studies.link(written.path, NAME)
    studies.sync(NAME)


def test_quarantine_keeps_bytes_and_words_and_gives_them_back(layout: Layout) -> None:
    written = Incoming(layout.incoming).write(b"", memoryview(b"bad"), "a1")
    entry = quarantine.Entry(
        id="", reason="No UID.", remedy="mend it", status=0xA900, called_ae_title="ECHO",
        calling_ae_title="CT1", address="10.0.0.1", association_id="a1", sop_class_uid="1.2",
        sop_instance_uid="../x", transfer_syntax_uid="1.2", received_at=NOW,
    )  # fmt: skip
    id = quarantine.keep(layout, written.path, entry)
    (found,) = quarantine.entries(layout)
    assert found == quarantine.read(layout, id)
    assert (found.reason, found.size_bytes, found.received_at) == ("No UID.", 3, NOW)
    assert quarantine.file_of(layout, id).read_bytes() == b"bad"
    quarantine.remove(layout, id)
    assert list(layout.quarantine.iterdir()) == []
    for bad in (id, "../../etc/passwd", ""):
        with pytest.raises(NotFound):
            quarantine.read(layout, bad)


def test_the_larger_reserve_counts_and_inodes_too() -> None:
    gb = 1024**3
    volume = Space(100 * gb, 6 * gb, 10_000, 9_000)
    assert not space.is_short(volume, 5, 5)
    assert space.is_short(volume, 5, 10)
    assert space.is_short(volume, 7, 5)
    assert space.is_short(Space(100 * gb, 90 * gb, 10_000, 10), 5, 5)
    assert not space.is_short(Space(100 * gb, 90 * gb, 0, 0), 5, 5)
    assert space.reserve_bytes(volume, 5, 10) == 10 * gb


def test_a_degraded_volume_stays_so_until_it_is_cleared(layout: Layout) -> None:
    assert space.degraded(layout) == ""
    space.mark_degraded(layout, "a file could not be synced")
    assert space.degraded(layout) == "a file could not be synced"
    space.clear_degraded(layout)
    assert space.degraded(layout) == ""


def test_a_lock_dies_with_its_process_not_with_a_folder_entry(layout: Layout) -> None:
    folder = layout.incoming / "p-9"
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert list(incoming.abandoned(layout.incoming)) == []
    os.close(descriptor)
    assert [path.name for path in incoming.abandoned(layout.incoming)] == ["p-9"]
