"""A process is killed with -9 at each step of the direct road; then another adopts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.studies import dataset_digest
from appliance.index import arrivals, schema
from appliance.index.database import Database
from appliance.intake import torn
from appliance.intake.adoption import adopt
from appliance.intake.arrived import path_of
from appliance.streams.catalog import Streams, read_streams
from tests.kit.dicom import ct_slice, write
from tests.unit.intake.direct import Road
from tests.unit.intake.given import bytes_of, count, instance, stored, waiting

NOW = datetime.now(UTC)
CHECKOUT = Path(__file__).resolve().parents[3]

# Sends files over the direct road, and kills itself at a step of the last of them.
CHILD = """
import os, signal, sys
from pathlib import Path
import pydicom
from appliance.disk import commit, folders, part_file
from appliance.disk.layout import Layout
from appliance.index import batch as index_batch, database
from appliance.intake import batch, draft, rows, writer
from appliance.settings import Index, Settings
from tests.unit.intake.direct import Road
from tests.unit.intake.given import CT1

url, root, step, *files = sys.argv[1:]

def die(*args, **words):
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name):
    setattr(owner, name, die)

def after(owner, name):
    real = getattr(owner, name)
    def then_die(*args, **words):
        real(*args, **words)
        die()
    setattr(owner, name, then_die)

STEPS = {
    "half written": lambda: before(draft.Draft, "keep"),
    "whole, not linked": lambda: before(draft.Draft, "_link"),
    "folder made": lambda: after(folders.Folders, "find"),
    "linked": lambda: before(commit.Commit, "file"),
    "synced": lambda: after(commit.Commit, "file"),
    "name taken": lambda: before(part_file.PartFile, "become_whole"),
    "made whole": lambda: after(part_file.PartFile, "become_whole"),
    "answered": lambda: before(batch, "file_clear"),
    "before commit": lambda: after(batch, "file_clear"),
    "committed": lambda: before(rows.Rows, "_unlink"),
    "known, not filed": lambda: before(batch, "file_known"),
    "alone, not filed": lambda: before(rows.Rows, "_file"),
    "alone, filed": lambda: after(rows.Filing, "file"),
}

settings = Settings(home=Path(root).parent, index=Index(url=url))
road = Road(database.connect(settings), Layout(Path(root)))
for number, file in enumerate(files, 1):
    ds = pydicom.dcmread(file)
    sender = CT1 if number == 1 else type(CT1)("ECHO", "CT2", "10.0.0.8", "a2")
    road.open(sender)
    if number == len(files):
        STEPS[step]()
    assert road.send(ds, Path(root).parent, sender).status == 0x0000
    if number < len(files):
        road.settle()
road.settle()
"""


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    folder = tmp_path / "streams" / "echo"
    folder.mkdir(parents=True)
    (folder / "info.json").write_text('{"AETitle": "ECHO", "command": ["true"], "trusted": true}')
    return read_streams(tmp_path / "streams")


@pytest.fixture
def killed(db: Database, layout: Layout, tmp_path: Path) -> Callable[..., None]:
    def killed(step: str, *sent: Dataset) -> None:
        files = [str(write(ds, tmp_path / f"sent{n}.dcm")) for n, ds in enumerate(sent)]
        url = db.engine.url.render_as_string(hide_password=False)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, url, str(layout.root), step, *files],
            cwd=CHECKOUT, capture_output=True, timeout=60, text=True,
        )  # fmt: skip
        assert done.returncode == -9, done.stderr

    return killed


@pytest.mark.parametrize("step", ["half written", "whole, not linked", "folder made"])
def test_what_was_not_linked_is_swept(
    db: Database, layout: Layout, streams: Streams, killed: Callable[..., None], step: str
) -> None:
    killed(step, ct_slice())
    assert adopt(db, layout, streams, NOW) == 0
    assert (stored(layout), waiting(layout)) == ([], [])


@pytest.mark.parametrize("step", ["linked", "synced", "answered", "before commit", "committed"])
def test_what_was_linked_is_kept_once_whatever_the_step(
    db: Database, layout: Layout, streams: Streams, killed: Callable[..., None], step: str
) -> None:
    ds = ct_slice()
    killed(step, ds)
    assert adopt(db, layout, streams, NOW) == (0 if step == "committed" else 1)
    assert count(db, schema.instances) == count(db, schema.receptions) == 1
    assert waiting(layout) == []
    (path,) = stored(layout)
    assert layout.root / instance(db, ds).path == path
    assert instance(db, ds).dataset_sha256 in ("", dataset_digest(path))
    (arrival,) = arrivals.open_arrivals(db, NOW)
    (brought,) = arrival.associations
    assert brought.calling_ae_title == "CT1"
    assert adopt(db, layout, streams, NOW) == 0


def test_who_brought_it_is_noted_though_his_process_died_before_it_could(
    db: Database, layout: Layout, streams: Streams, killed: Callable[..., None]
) -> None:
    killed("linked", ct_slice())
    with db.write() as connection:
        connection.execute(sa.delete(schema.associations))
    adopt(db, layout, streams, NOW)
    (arrival,) = arrivals.open_arrivals(db, NOW)
    assert [one.ending for one in arrival.associations] == ["process died"]


@pytest.mark.parametrize(
    "step",
    ["name taken", "made whole", "answered", "known, not filed", "alone, not filed"],
)
def test_a_second_copy_that_was_answered_gets_its_reception(
    db: Database, layout: Layout, streams: Streams, killed: Callable[..., None], step: str
) -> None:
    ds = ct_slice()
    killed("alone, not filed" if step == "known, not filed" else step, ds, ds)
    was_answered = step != "name taken"
    adopt(db, layout, streams, NOW)
    assert count(db, schema.instances) == len(stored(layout)) == 1
    assert count(db, schema.receptions) == 1 + was_answered
    assert waiting(layout) == []
    assert quarantine.entries(layout) == []


def test_other_content_that_was_answered_is_in_quarantine(
    db: Database, layout: Layout, streams: Streams, killed: Callable[..., None]
) -> None:
    first, second = ct_slice(), ct_slice(2)
    second.SOPInstanceUID = first.SOPInstanceUID  # of another study: its name is free
    killed("alone, not filed", first, second)
    adopt(db, layout, streams, NOW)
    assert stored(layout) == [layout.root / instance(db, first).path]
    assert len(quarantine.entries(layout)) == 1
    assert waiting(layout) == []


# -- torn by a power cut --------------------------------------------------------------------------


def left(db: Database, layout: Layout, ds: Dataset, folder: Path) -> Path:
    """Leave a linked file of a dead process; give its name in incoming/."""
    road = Road(db, layout, is_written=False)
    assert road.send(ds, folder).status == 0x0000
    (path,) = waiting(layout)
    os.close(road.ways.incoming.descriptor)  # as the kernel does
    return path


def test_a_torn_file_loses_both_names(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path
) -> None:
    path = left(db, layout, ct_slice(), tmp_path)
    os.truncate(path, path.stat().st_size - 1000)
    assert adopt(db, layout, streams, NOW) == 0
    assert (stored(layout), waiting(layout)) == ([], [])
    assert quarantine.entries(layout) == []


def test_a_file_with_a_hole_is_torn(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = ct_slice(size=256)
    path = left(db, layout, ds, tmp_path)
    whole = path.stat().st_size
    monkeypatch.setattr(torn, "file_system_of", lambda path: "ext4")
    os.truncate(path, whole - 65536)
    os.truncate(path, whole)  # the length was kept, the bytes were not
    assert adopt(db, layout, streams, NOW) == 0
    assert (stored(layout), waiting(layout)) == ([], [])


def test_a_torn_file_whose_row_stands_keeps_its_name(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path
) -> None:
    ds = ct_slice()
    path = left(db, layout, ds, tmp_path)
    other = Road(db, layout)
    other.send(ds, tmp_path)
    other.settle()  # its row names the file that the first one linked
    other.close()
    os.truncate(path, path.stat().st_size - 1000)
    adopt(db, layout, streams, NOW)
    assert stored(layout) == [layout.root / instance(db, ds).path]
    assert waiting(layout) == []


def test_an_empty_file_loses_its_name_in_incoming_and_its_instance_may_come_again(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path
) -> None:
    ds = ct_slice()
    path = left(db, layout, ds, tmp_path)
    os.truncate(path, 0)
    assert adopt(db, layout, streams, NOW) == 0
    assert waiting(layout) == []
    road = Road(db, layout)
    assert road.send(ds, tmp_path).status == 0x0000
    road.settle()
    road.close()
    (path,) = stored(layout)
    assert path.read_bytes().endswith(bytes_of(ds, tmp_path))
    assert str(path).endswith(path_of(instance(db, ds)))  # type: ignore[arg-type]


def test_adoption_reads_the_list_of_incoming_and_never_the_store(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(db, layout, ct_slice(), tmp_path)
    listed: list[str] = []
    for name in ("scandir", "listdir"):
        real = getattr(os, name)

        def note(path: str = ".", real: Callable[..., object] = real) -> object:
            listed.append(os.fspath(path))
            return real(path)

        monkeypatch.setattr(os, name, note)
    assert adopt(db, layout, streams, NOW) == 1
    assert any(path.startswith(str(layout.incoming)) for path in listed)
    assert [path for path in listed if path.startswith(str(layout.studies))] == []
