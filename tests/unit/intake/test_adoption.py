"""A process is killed with -9 at each step of keeping an instance; then another adopts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.dicom import part10
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.studies import Studies, dataset_digest
from appliance.errors import IndexUnavailable
from appliance.index import arrivals, catalog, schema
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.intake import adoption, results
from appliance.intake.adoption import adopt
from appliance.intake.take import Intake
from appliance.streams.catalog import Streams, read_streams
from tests.kit.dicom import ct_slice, write
from tests.unit.intake.given import (
    CT1,
    LITTLE,
    bytes_of,
    count,
    result_of,
    running_job,
    stage,
    stored,
    waiting,
)

NOW = datetime.now(UTC)
CHECKOUT = Path(__file__).resolve().parents[3]

# Keeps one file and kills itself when the named function is entered or left.
CHILD = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
import sqlalchemy as sa
from appliance.dicom import part10
from appliance.disk import incoming, studies
from appliance.disk.layout import Layout
from appliance.index import database
from appliance.intake import filing, take
from appliance.settings import Index, Settings

url, root, path, step, called = sys.argv[1:]

def die(*args, **words):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name):
    real = getattr(owner, name)
    def then_die(*args, **words):
        real(*args, **words)
        die()
    setattr(owner, name, then_die)

if step == "half written":
    incoming.sync_file = die
elif step == "written":
    take.checked_header = die
elif step == "linked":
    after(studies.Studies, "link")
elif step == "before commit":
    filing.arrivals.receive = die
elif step == "committed":
    after(filing.Filing, "file")

settings = Settings(home=Path(root).parent, index=Index(url=url))
db = database.connect(settings)
meta, header, _ = part10.read_file(Path(path))
take.Intake(db, Layout(Path(root)), "BROOKBOX").keep(
    Path(path), sop_class_uid=header.sop_class_uid, sop_instance_uid=header.sop_instance_uid,
    transfer_syntax_uid=meta.transfer_syntax_uid,
    sender=filing.Sender(called, "CT1", "10.0.0.9", "a1", port=4711), level="study",
    now=datetime.now(UTC))
"""


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    folder = tmp_path / "streams" / "echo"
    folder.mkdir(parents=True)
    (folder / "info.json").write_text(
        '{"AETitle": "ECHO", "command": ["true"], "trusted": true, "level": "series"}'
    )
    return read_streams(tmp_path / "streams")


@pytest.fixture
def killed(db: Database, layout: Layout, tmp_path: Path) -> Callable[[Dataset, str], None]:
    def killed(ds: Dataset, step: str, called: str = "ECHO") -> None:
        path = write(ds, tmp_path / "sent.dcm")
        url = db.engine.url.render_as_string(hide_password=False)
        done = subprocess.run(
            [sys.executable, "-c", CHILD, url, str(layout.root), str(path), step, called],
            cwd=CHECKOUT, capture_output=True, timeout=60, text=True,
        )  # fmt: skip
        assert done.returncode == -9, done.stderr

    return killed


def test_half_an_instance_is_swept(
    db: Database, layout: Layout, streams: Streams, killed: Callable[[Dataset, str], None]
) -> None:
    killed(ct_slice(), "half written")
    assert adopt(db, layout, streams, NOW) == 0
    assert (stored(layout), waiting(layout)) == ([], [])


@pytest.mark.parametrize("step", ["written", "linked", "before commit", "committed"])
def test_a_whole_instance_is_kept_once_whatever_the_step(
    db: Database,
    layout: Layout,
    streams: Streams,
    killed: Callable[[Dataset, str], None],
    step: str,
) -> None:
    ds = ct_slice()
    killed(ds, step)
    adopted = adopt(db, layout, streams, NOW)
    assert adopted == (0 if step == "committed" else 1)
    assert count(db, schema.instances) == 1
    assert count(db, schema.receptions) == 1
    assert waiting(layout) == []
    with db.read() as connection:
        row = catalog.find_instance(connection, ds.SOPInstanceUID)
        reception = connection.execute(sa.select(schema.receptions)).one()
    assert row is not None
    (path,) = stored(layout)
    assert dataset_digest(path) == row.dataset_sha256
    assert reception.called_ae_title == "ECHO"
    assert reception.calling_ae_title == "CT1"
    assert reception.address == "10.0.0.9"
    assert reception.association_id == "a1"
    (open_one,) = arrivals.open_arrivals(db, NOW)
    wanted = "" if step == "committed" else ds.SeriesInstanceUID  # the stream's level
    assert open_one.series_uid == wanted
    assert adopt(db, layout, streams, NOW) == 0


def test_for_an_unknown_or_the_nodes_own_ae_title_no_arrival_is_opened(
    db: Database, layout: Layout, streams: Streams, killed: Callable[..., None]
) -> None:
    killed(ct_slice(), "linked", "BROOKBOX")
    assert adopt(db, layout, streams, NOW) == 1
    assert count(db, schema.arrivals) == 0


def test_a_bad_instance_whose_refusal_was_cut_off_is_in_quarantine(
    db: Database, layout: Layout, streams: Streams
) -> None:
    dead = layout.incoming / "p-1"
    dead.mkdir()
    meta = part10.FileMeta("1.2", "1.3", LITTLE, "BROOKBOX", "CT1", "ECHO")
    (dead / "a1.1").write_bytes(part10.encode(meta) + b"not a data set")
    assert adopt(db, layout, streams, NOW) == 0
    (entry,) = quarantine.entries(layout)
    assert (entry.calling_ae_title, entry.status) == ("CT1", 0xC000)
    assert waiting(layout) == []


def leave(layout: Layout, name: str, content: bytes) -> Path:
    """Leave a file of a dead process."""
    dead = layout.incoming / "p-1"
    dead.mkdir(exist_ok=True)
    (dead / name).write_bytes(content)
    return dead / name


def whole(ds: Dataset, folder: Path) -> bytes:
    meta = part10.FileMeta(ds.SOPClassUID, ds.SOPInstanceUID, LITTLE, "BROOKBOX", "CT1", "ECHO")
    return part10.encode(meta) + bytes_of(ds, folder)


def test_a_leftover_that_is_no_dicom_file_is_quarantined_and_stops_no_other(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path
) -> None:
    leave(layout, "a1.1", b"")
    leave(layout, "a1.2", whole(ct_slice(), tmp_path))
    assert adopt(db, layout, streams, NOW) == 1
    assert [entry.size_bytes for entry in quarantine.entries(layout)] == [0]
    assert waiting(layout) == []


def test_a_leftover_that_cannot_be_read_stays_and_stops_no_other(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path
) -> None:
    leave(layout, "a1.2", whole(ct_slice(), tmp_path))
    (layout.incoming / "p-1" / "a1.1").mkdir()  # reading it raises OSError, as a bad sector does
    assert adopt(db, layout, streams, NOW) == 1
    assert (layout.incoming / "p-1" / "a1.1").exists()
    assert waiting(layout) == []


def test_a_staging_folder_that_its_worker_removes_meanwhile_does_no_harm(
    db: Database, layout: Layout, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    (layout.incoming / "job-1-1").mkdir()

    def removed(db: Database, job_id: int, attempt: int) -> bool:
        (layout.incoming / "job-1-1").rmdir()
        return False

    monkeypatch.setattr(adoption, "_is_current", removed)
    assert adopt(db, layout, streams, NOW) == 0


def test_nothing_of_a_living_process_is_touched(
    db: Database, layout: Layout, streams: Streams, intake: Intake, tmp_path: Path
) -> None:
    held = intake.incoming.write(b"", memoryview(b"being kept"), "a1")
    assert adopt(db, layout, streams, NOW) == 0
    assert held.path.read_bytes() == b"being kept"
    assert bytes_of(ct_slice(), tmp_path)


def test_what_waited_for_the_index_is_adopted(
    db: Database,
    layout: Layout,
    streams: Streams,
    intake: Intake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*args: object, **words: object) -> bool:
        raise IndexUnavailable("locked", remedy="wait")

    ds = ct_slice()
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "add_instance", away)
        with pytest.raises(IndexUnavailable):
            intake.keep(
                bytes_of(ds, tmp_path), sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID, transfer_syntax_uid=LITTLE,
                sender=CT1, level="study", now=NOW,
            )  # fmt: skip
        with pytest.raises(IndexUnavailable):
            adopt(db, layout, streams, NOW)
    assert adopt(db, layout, streams, NOW) == 1
    assert waiting(layout) == []


def test_staging_that_was_linked_by_a_dead_attempt_loses_both_names(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path
) -> None:
    ds = ct_slice()
    job = running_job(db, ds)
    staged = stage(layout, job, result_of(ds, tmp_path))
    Studies(layout).link(staged.file, staged.path)
    adopt(db, layout, streams, NOW)
    assert staged.file.exists()  # the attempt is the current one
    results.register(db, layout, job, [], Finish("failed"), NOW)
    staged = stage(layout, job, result_of(ds, tmp_path))
    Studies(layout).link(staged.file, staged.path)
    adopt(db, layout, streams, NOW)
    assert not (layout.root / staged.path).exists()
    assert waiting(layout) == []


def test_staging_of_registered_results_goes_and_the_results_stay(
    db: Database, layout: Layout, streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = ct_slice()
    job = running_job(db, ds)
    staged = stage(layout, job, result_of(ds, tmp_path))
    with monkeypatch.context() as patch:  # killed after the commit
        patch.setattr(results, "_remove", lambda folder: None)
        results.register(db, layout, job, [staged], Finish("success"), NOW)
    results.sweep_staged(layout, job.id)
    assert staged.file.exists()  # linked: only the index can tell
    adopt(db, layout, streams, NOW)
    assert waiting(layout) == []
    assert (layout.root / staged.path).exists()
