"""Other content under a known SOP Instance UID, by each policy, and killed at each step."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.disk.studies import dataset_digest
from appliance.dispatcher.completeness import Verdict
from appliance.dispatcher.launch import launch
from appliance.errors import Conflicts
from appliance.health import stored_files
from appliance.index import arrival_list, arrivals, catalog, events, rebuild, schema
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.intake import results
from appliance.intake.adoption import adopt
from appliance.intake.arrived import Kept, Sender
from appliance.settings import Receiver
from appliance.streams.catalog import Streams
from appliance.streams.info import StreamInfo
from tests.kit.dicom import ct_slice, write
from tests.unit.intake.given import (
    NOW,
    bytes_of,
    count,
    instance,
    result_of,
    running_job,
    stage,
    stored,
    waiting,
)

CHECKOUT = Path(__file__).resolve().parents[3]
CT2 = Sender("ECHO", "CT2", "10.0.0.8", "a2")
REPLACE = Receiver(on_conflict="replace")
INFO = StreamInfo(AETitle="ECHO", name="Echo", version="3")


def changed(ds: Dataset, comment: str = "changed") -> Dataset:
    ds.PatientComments = comment
    return ds


def test_bi_02_keep_first_keeps_the_second_in_quarantine_and_says_so(
    db: Database, layout: Layout, send: Callable[..., Kept]
) -> None:
    ds = ct_slice()
    send(ds)
    before = stored(layout)[0].read_bytes()
    kept = send(changed(ds), CT2)
    assert "first stays" in kept.note
    assert kept.arrival_id is not None
    assert stored(layout)[0].read_bytes() == before
    (entry,) = quarantine.entries(layout)
    assert (entry.kind, entry.status, entry.calling_ae_title) == (Kind.CONFLICT, 0x0000, "CT2")
    with db.read() as connection:
        assert len(events.latest(connection, 9, kind="instance conflicts")) == 1
        assert arrival_list.conflicts_of(connection, kept.arrival_id) == 1
    assert waiting(layout) == []


def test_bi_02_refuse_tells_the_sender_and_keeps_the_bytes(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]]
) -> None:
    send = intake_of(Receiver(on_conflict="refuse"))
    ds = ct_slice()
    send(ds)
    first = instance(db, ds)
    with pytest.raises(Conflicts) as told:
        send(changed(ds), CT2)
    assert told.value.status == 0x0124
    assert len(str(told.value)) <= 64, "it is the Error Comment"
    (entry,) = quarantine.entries(layout)
    assert (entry.kind, entry.status) == (Kind.CONFLICT, 0x0124)
    assert b"changed" in quarantine.file_of(layout, entry.id).read_bytes()
    assert instance(db, ds) == first
    assert count(db, schema.receptions) == 1
    assert waiting(layout) == []


def test_bi_02_replace_takes_the_newer_one_and_keeps_the_older(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]], tmp_path: Path
) -> None:
    send = intake_of(REPLACE)
    ds = ct_slice()
    send(ds)
    first = stored(layout)[0].read_bytes()
    job_input = tmp_path / "00001.dcm"
    os.link(stored(layout)[0], job_input)
    arrivals_before = count(db, schema.arrivals)
    with db.write() as connection:
        (arrival,) = arrivals.open_arrivals(db, NOW)
        arrivals.close_arrival(
            connection, arrival, NOW, reason="", incomplete=False, digest="d", job_id=None
        )
    kept = send(changed(ds), CT2)
    assert kept.arrival_id is not None
    assert count(db, schema.arrivals) == arrivals_before + 1, "as for a new instance"
    row = instance(db, ds)
    assert row.path.endswith(f"{ds.SOPInstanceUID}.v2.dcm")
    (path,) = stored(layout)
    assert path == layout.root / row.path
    assert dataset_digest(path) == row.dataset_sha256
    assert path.stat().st_size == row.size_bytes
    assert pydicom.dcmread(path).PatientComments == "changed"
    (entry,) = quarantine.entries(layout)
    assert (entry.kind, entry.calling_ae_title) == (Kind.REPLACED, "CT1"), "who had sent it"
    assert quarantine.file_of(layout, entry.id).read_bytes() == first
    assert job_input.read_bytes() == first, "a running job's input stays as it is"
    with db.read() as connection:
        (event,) = events.latest(connection, 9, kind="instance replaced")
        assert arrival_list.conflicts_of(connection, kept.arrival_id) == 0
    assert event.study_uid == ds.StudyInstanceUID
    assert send(ds).note == "It was kept already."
    send(changed(ds, "once more"))
    assert instance(db, ds).path.endswith(".v3.dcm")
    assert len(stored(layout)) == 1
    assert len(quarantine.entries(layout)) == 2
    assert waiting(layout) == []


def test_bi_02_replace_makes_a_new_job_that_supersedes_the_older_one(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]]
) -> None:
    send = intake_of(REPLACE)
    ds = ct_slice()
    jobs = []
    for comes in (ds, changed(ct_slice(1))):
        comes.StudyInstanceUID, comes.SeriesInstanceUID = ds.StudyInstanceUID, ds.SeriesInstanceUID
        comes.SOPInstanceUID = ds.SOPInstanceUID
        send(comes)
        (arrival,) = arrivals.open_arrivals(db, NOW)
        complete = Verdict(True, NOW, "Nothing came for 30 s.")
        launched = launch(db, layout.root, arrival, complete, INFO, "show", NOW)
        assert launched is not None
        assert launched.job is not None
        jobs.append(launched.job)
    first, second = jobs
    assert second.supersedes == first.id
    assert second.input_digest != first.input_digest
    assert not second.is_held
    assert not second.incomplete


def test_bi_02_a_result_of_ours_is_never_replaced(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]], tmp_path: Path
) -> None:
    ds = ct_slice()
    job = running_job(db, ds)
    path = result_of(ds, tmp_path)
    results.register(db, layout, job, [stage(layout, job, path)], Finish("success"), NOW)
    result = pydicom.dcmread(path)
    before = instance(db, result)
    intake_of(REPLACE)(changed(result), Sender("MONTAGE", "PACS", "10.0.0.2", "a7"))
    assert instance(db, result) == before
    (entry,) = quarantine.entries(layout)
    assert entry.kind == Kind.CONFLICT


def test_bi_02_a_uid_that_comes_in_another_study_replaces_nothing(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]]
) -> None:
    send = intake_of(REPLACE)
    ds = ct_slice()
    send(ds)
    before = instance(db, ds)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    send(ds)
    assert instance(db, ds) == before
    assert count(db, schema.studies) == count(db, schema.series) == 1
    assert [one.kind for one in quarantine.entries(layout)] == [Kind.CONFLICT]


# Keeps one file by the policy "replace", and kills itself at the step that is named.
CHILD = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from appliance.dicom import part10
from appliance.disk import studies
from appliance.disk.layout import Layout
from appliance.index import database
from appliance.intake import aside, filing, take
from appliance.settings import Index, Receiver, Settings

url, root, path, step = sys.argv[1:]

def die(*args, **words):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name):
    real = getattr(owner, name)
    def then_die(*args, **words):
        real(*args, **words)
        die()
    setattr(owner, name, then_die)

if step == "linked":
    after(studies.Studies, "link")
elif step == "moved":
    after(filing.catalog, "replace_content")
elif step == "before commit":
    filing.arrivals.receive = die
elif step == "committed":
    aside.Aside.replaced = die
elif step == "described":
    after(aside.quarantine, "describe")
elif step == "set aside":
    after(studies.Studies, "set_aside")

db = database.connect(Settings(home=Path(root).parent, index=Index(url=url)))
meta, header, _ = part10.read_file(Path(path))
rules = Receiver(on_conflict="replace")
take.Intake(db, Layout(Path(root)), "BROOKBOX", lambda: rules).keep(
    Path(path), sop_class_uid=header.sop_class_uid, sop_instance_uid=header.sop_instance_uid,
    transfer_syntax_uid=meta.transfer_syntax_uid,
    sender=filing.Sender("ECHO", "CT2", "10.0.0.8", "a2"), level="study", now=datetime.now(UTC))
"""
STEPS = ["linked", "moved", "before commit", "committed", "described", "set aside"]


def replaced_and_killed(db: Database, layout: Layout, ds: Dataset, folder: Path, step: str) -> None:
    path = write(changed(ds), folder / "sent.dcm")
    url = db.engine.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, url, str(layout.root), str(path), step],
        cwd=CHECKOUT, capture_output=True, timeout=60, text=True,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize("step", STEPS)
def test_bi_02_a_replacement_that_was_killed_is_finished_once(
    db: Database, layout: Layout, send: Callable[..., Kept], tmp_path: Path, step: str
) -> None:
    ds = ct_slice()
    send(ds)
    first = stored(layout)[0].read_bytes()
    replaced_and_killed(db, layout, ds, tmp_path, step)
    row = instance(db, ds)
    assert dataset_digest(layout.root / row.path) == row.dataset_sha256, "at every moment"
    adopt(db, layout, Streams(), datetime.now(UTC), lambda: REPLACE)
    row = instance(db, ds)
    assert row.path.endswith(".v2.dcm")
    assert [layout.root / row.path] == stored(layout)
    assert pydicom.dcmread(stored(layout)[0]).PatientComments == "changed"
    (entry,) = quarantine.entries(layout)
    assert entry.kind == Kind.REPLACED
    assert quarantine.file_of(layout, entry.id).read_bytes() == first
    assert count(db, schema.receptions) == 2
    assert waiting(layout) == []


@pytest.mark.parametrize("left", ["the older first", "the newer first", "the newer alone"])
def test_bi_02_a_rebuilt_index_prefers_the_newest_content(
    db: Database, layout: Layout, send: Callable[..., Kept], tmp_path: Path, left: str
) -> None:
    ds = ct_slice()
    send(ds)
    replaced_and_killed(db, layout, ds, tmp_path, "committed")
    older, newer = sorted(stored(layout), key=lambda path: len(path.name))
    # Whatever time a copy gave them: the name counts.
    os.utime(older if left == "the older first" else newer, (1, 1))
    if left == "the newer alone":
        older.unlink()
    told = rebuild.Told(
        files=stored_files.stored_files(layout, stored_files.stored_paths(layout), print),
        records=(), highest_job_id=0, level_of=lambda title: "study",
        since=datetime(1960, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    rebuild.rebuild(db, told, None, NOW)
    assert layout.root / instance(db, ds).path == newer
    assert instance(db, ds).dataset_sha256 == dataset_digest(newer)


def test_a_rebuilt_index_has_the_same_marks(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]], tmp_path: Path
) -> None:
    send = intake_of(Receiver(coerce=True))
    ds = ct_slice(patient_id="")
    del ds.SeriesInstanceUID
    ds.PixelData = ds.PixelData[:-2]
    kept = send(ds)
    assert kept.marks == ("no-patient-id", "short-pixels", "coerced")
    assert instance(db, ds).marks == "no-patient-id,short-pixels,coerced"
    told = rebuild.Told(
        files=stored_files.stored_files(layout, stored_files.stored_paths(layout), print),
        records=(), highest_job_id=0, level_of=lambda title: "study", since=NOW,
    )  # fmt: skip
    rebuild.rebuild(db, told, None, NOW)
    assert instance(db, ds).marks == "no-patient-id,short-pixels,coerced"
    with db.read() as connection:
        assert catalog.find_study(connection, ds.StudyInstanceUID) is not None
    assert bytes_of(ds, tmp_path) not in stored(layout)[0].read_bytes()
