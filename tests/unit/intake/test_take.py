"""Intake: what is kept, for whom, and what is refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from appliance.dicom import part10
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.studies import Studies, dataset_digest
from appliance.errors import (
    CannotUnderstand,
    DoesNotMatch,
    IndexUnavailable,
    NoSpace,
    SyncFailed,
)
from appliance.index import arrival_list, arrivals, catalog, events, schema
from appliance.index.database import Database
from appliance.intake.filing import Kept, Sender, path_of
from appliance.intake.take import Intake
from tests.kit.dicom import ct_slice, write
from tests.unit.intake.given import CT1, LITTLE, NOW, bytes_of, count, instance, stored, waiting


def test_a_kept_instance_has_its_bytes_its_row_and_its_reception(
    db: Database, layout: Layout, send: Callable[..., Kept], tmp_path: Path
) -> None:
    ds = ct_slice()
    kept = send(ds)
    assert kept.is_new
    assert kept.arrival_id is not None
    (path,) = stored(layout)
    row = instance(db, ds)
    assert layout.root / row.path == path
    digest = hashlib.sha256(bytes_of(ds, tmp_path)).hexdigest()
    assert row.dataset_sha256 == digest == dataset_digest(path)
    assert row.size_bytes == path.stat().st_size
    assert waiting(layout) == []
    (open_one,) = arrivals.open_arrivals(db, NOW)
    assert (open_one.called_ae_title, open_one.study_uid) == ("ECHO", ds.StudyInstanceUID)
    meta = pydicom.dcmread(path).file_meta
    assert meta.SourceApplicationEntityTitle == "BROOKBOX"
    assert meta.SendingApplicationEntityTitle == "CT1"
    assert meta.ReceivingApplicationEntityTitle == "ECHO"
    assert meta.SendingPresentationAddress == "dicom:10.0.0.9:4711"


def test_the_same_study_to_two_ae_titles_is_one_copy_and_two_arrivals(
    db: Database, layout: Layout, send: Callable[..., Kept]
) -> None:
    ds = ct_slice()
    first = send(ds)
    second = send(ds, Sender("MONTAGE", "CT1", "10.0.0.9", "a2"))
    assert len(stored(layout)) == 1
    assert (first.is_new, second.is_new) == (True, False)
    assert first.arrival_id != second.arrival_id
    assert count(db, schema.receptions) == 2


def test_for_the_nodes_own_ae_title_there_is_a_reception_and_no_arrival(
    db: Database, send: Callable[..., Kept]
) -> None:
    kept = send(ct_slice(), Sender("BROOKBOX", "CT1", "10.0.0.9", "a1"), level=None)
    assert kept.arrival_id is None
    assert (count(db, schema.receptions), count(db, schema.arrivals)) == (1, 0)


def test_bi_01_the_same_content_in_other_bytes_is_no_conflict(
    db: Database, layout: Layout, intake: Intake, tmp_path: Path
) -> None:
    ds = ct_slice()
    first = ""
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        path = write(ds, tmp_path / "made.dcm", syntax)
        kept = intake.keep(
            path.read_bytes()[part10.read_meta(path)[1] :],
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            transfer_syntax_uid=syntax,
            sender=CT1,
            level="study",
            now=NOW,
        )
        first = first or instance(db, ds).dataset_sha256
    assert kept.note == "It was kept already."
    assert quarantine.entries(layout) == []
    assert instance(db, ds).dataset_sha256 == first, "the bytes that came first stay"
    with db.read() as connection:
        assert kept.arrival_id is not None
        assert arrival_list.conflicts_of(connection, kept.arrival_id) == 0


def test_the_same_uid_in_another_study_keeps_the_first_and_leaves_no_stray_file(
    db: Database, layout: Layout, send: Callable[..., Kept]
) -> None:
    ds = ct_slice()
    first = ds.StudyInstanceUID
    send(ds)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    kept = send(ds)
    assert len(stored(layout)) == 1
    assert len(quarantine.entries(layout)) == 1
    assert {one.study_uid for one in arrivals.open_arrivals(db, NOW)} == {first, "1.2.3"}
    with db.read() as connection:
        assert kept.arrival_id is not None
        assert arrival_list.conflicts_of(connection, kept.arrival_id) == 1
        assert arrivals.received_for(connection, "ECHO", "1.2.3") == []


@pytest.mark.parametrize("same", [True, False], ids=["one content", "eight contents"])
def test_bi_03_one_uid_from_eight_senders_at_once_is_one_row_and_all_succeed(
    db: Database, layout: Layout, tmp_path: Path, same: bool
) -> None:
    ds = ct_slice()
    contents = []
    for number in range(8):
        ds.PatientComments = "same" if same else f"other {number}"
        contents.append(bytes_of(ds, tmp_path))
    intakes = [Intake(db, layout, "BROOKBOX") for _ in range(4)]
    start = threading.Barrier(8)

    def one(number: int) -> Kept:
        start.wait()
        return intakes[number % 4].keep(
            contents[number],
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            transfer_syntax_uid=LITTLE,
            sender=Sender("ECHO", f"CT{number}", "10.0.0.9", f"a{number}"),
            level="study",
            now=NOW + timedelta(milliseconds=number),
        )

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(one, range(8)))
    assert sum(one.is_new for one in kept) == 1
    assert count(db, schema.instances) == 1
    assert count(db, schema.receptions) == 8
    (path,) = stored(layout)
    assert dataset_digest(path) == instance(db, ds).dataset_sha256
    assert waiting(layout) == []
    if same:
        assert quarantine.entries(layout) == []


def test_a_crash_left_the_name_and_the_resend_registers_it(
    db: Database, layout: Layout, intake: Intake, send: Callable[..., Kept], tmp_path: Path
) -> None:
    ds = ct_slice()
    data = bytes_of(ds, tmp_path)
    relative = path_of(part10.read_file(tmp_path / "made.dcm")[1])
    left = tmp_path / "left.dcm"
    meta = part10.FileMeta(ds.SOPClassUID, ds.SOPInstanceUID, LITTLE)
    left.write_bytes(part10.encode(meta) + data)
    Studies(layout).link(left, relative)
    assert send(ds).is_new
    assert quarantine.entries(layout) == []
    assert dataset_digest(stored(layout)[0]) == instance(db, ds).dataset_sha256


@pytest.mark.parametrize("left", [b"", b"broken", "other"], ids=["empty", "broken", "other"])
def test_what_was_never_registered_gives_way_and_is_not_lost(
    db: Database, layout: Layout, send: Callable[..., Kept], tmp_path: Path, left: bytes | str
) -> None:
    ds = ct_slice()
    bytes_of(ds, tmp_path)
    relative = path_of(part10.read_file(tmp_path / "made.dcm")[1])
    stray = tmp_path / "stray.dcm"
    if isinstance(left, bytes):
        stray.write_bytes(left)
    else:
        other = ct_slice(rng_seed=5)
        other.SOPInstanceUID = ds.SOPInstanceUID
        write(other, stray)
    Studies(layout).link(stray, relative)
    before = stray.read_bytes()
    assert send(ds).is_new
    assert dataset_digest(layout.root / relative) == instance(db, ds).dataset_sha256
    (entry,) = quarantine.entries(layout)
    assert quarantine.file_of(layout, entry.id).read_bytes() == before


def test_a_resend_gives_a_lost_file_its_bytes_back(
    db: Database, layout: Layout, send: Callable[..., Kept]
) -> None:
    ds = ct_slice()
    send(ds)
    stored(layout)[0].unlink()
    assert not send(ds).is_new
    assert dataset_digest(stored(layout)[0]) == instance(db, ds).dataset_sha256


@pytest.mark.parametrize("field", ["sop_class_uid", "sop_instance_uid"])
def test_bi_08_a_data_set_that_contradicts_its_request_is_quarantined(
    db: Database, layout: Layout, send: Callable[..., Kept], field: str
) -> None:
    with pytest.raises(DoesNotMatch, match="not the one of the request"):
        send(ct_slice(), **{field: "1.2.3"})
    (entry,) = quarantine.entries(layout)
    assert (entry.status, entry.calling_ae_title) == (0xA900, "CT1")
    assert count(db, schema.instances) == 0
    assert (stored(layout), waiting(layout)) == ([], [])
    with db.read() as connection:
        (event,) = events.latest(connection, 10, kind="instance refused")
    assert "Seeded" not in event.sentence + event.facts


def test_an_audit_line_is_written_once_for_an_association_not_for_each_instance(
    db: Database, layout: Layout, send: Callable[..., Kept]
) -> None:
    for _ in range(3):
        with pytest.raises(CannotUnderstand):
            send(ct_slice(), data=b"no DICOM at all")
    assert len(quarantine.entries(layout)) == 3
    with db.read() as connection:
        assert len(events.latest(connection, 10, kind="instance refused")) == 1


def test_a_refused_instance_leaves_nothing_when_quarantine_is_full_too(
    layout: Layout, send: Callable[..., Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> str:
        raise NoSpace("full", remedy="make room")

    monkeypatch.setattr(quarantine, "keep", full)
    for _ in range(2):
        with pytest.raises(NoSpace):
            send(ct_slice(), data=b"no data set at all")
    assert waiting(layout) == []


def test_an_empty_data_set_is_refused(send: Callable[..., Kept]) -> None:
    with pytest.raises(DoesNotMatch):
        send(ct_slice(), data=b"")


def test_an_index_that_is_away_keeps_nothing_and_the_resend_succeeds(
    db: Database,
    layout: Layout,
    send: Callable[..., Kept],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*args: object, **words: object) -> bool:
        raise IndexUnavailable("locked", remedy="wait")

    ds = ct_slice()
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "add_instance", away)
        for _ in range(3):
            with pytest.raises(IndexUnavailable):
                send(ds)
    # Only the copy that was linked waits for adoption: it takes no room of its own.
    assert [path.parent.name for path in waiting(layout)] == ["left"]
    assert send(ds).is_new
    assert dataset_digest(stored(layout)[0]) == instance(db, ds).dataset_sha256


@pytest.mark.parametrize("error", [NoSpace("full", remedy=""), SyncFailed("EIO", remedy="")])
def test_a_volume_that_fails_after_the_write_acknowledges_nothing(
    db: Database,
    layout: Layout,
    send: Callable[..., Kept],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fails(*args: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Studies, "sync", fails)
        with pytest.raises(type(error)):
            send(ct_slice())
    assert count(db, schema.instances) == 0


def test_an_upload_from_a_file_loses_its_senders_file_meta(
    layout: Layout, intake: Intake, tmp_path: Path
) -> None:
    ds = ct_slice()
    path = write(ds, tmp_path / "up.dcm")
    intake.keep(
        path,
        sop_class_uid=ds.SOPClassUID,
        sop_instance_uid=ds.SOPInstanceUID,
        transfer_syntax_uid=LITTLE,
        sender=Sender("ECHO", "", "", "u1"),
        level="study",
        now=NOW,
    )
    (kept,) = stored(layout)
    assert dataset_digest(kept) == dataset_digest(path)
    assert pydicom.dcmread(kept).file_meta.SourceApplicationEntityTitle == "BROOKBOX"
