from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.dicom import part10
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.studies import Studies, dataset_digest
from appliance.errors import (
    CannotUnderstand,
    DoesNotMatch,
    IndexUnavailable,
    LeaseLost,
    NoSpace,
    SyncFailed,
)
from appliance.index import arrivals, catalog, events, schema
from appliance.index.attempts import Finish, claim_next, requeue
from appliance.index.database import Database
from appliance.index.jobs import Job, NewJob, create
from appliance.intake import results
from appliance.intake.adoption import adopt
from appliance.intake.filing import Kept, Sender, path_of
from appliance.intake.take import Intake
from appliance.streams.catalog import Streams
from tests.kit.dicom import ct_slice, write

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CT1 = Sender("ECHO", "CT1", "10.0.0.9", "a1", port=4711, local="dicom:10.0.0.1:11113")
LITTLE = "1.2.840.10008.1.2.1"


def bytes_of(ds: Dataset, folder: Path) -> bytes:
    path = write(ds, folder / "made.dcm")
    return path.read_bytes()[part10.read_meta(path)[1] :]


@pytest.fixture
def send(intake: Intake, tmp_path: Path) -> Callable[..., Kept]:
    def send(
        ds: Dataset,
        sender: Sender = CT1,
        level: str | None = "study",
        now: datetime = NOW,
        data: bytes | None = None,
        **request: str,
    ) -> Kept:
        return intake.keep(
            bytes_of(ds, tmp_path) if data is None else data,
            sop_class_uid=request.get("sop_class_uid", ds.SOPClassUID),
            sop_instance_uid=request.get("sop_instance_uid", ds.SOPInstanceUID),
            transfer_syntax_uid=LITTLE,
            sender=sender,
            level=level,
            now=now,
        )

    return send


def stored(layout: Layout) -> list[Path]:
    return sorted(path for path in layout.studies.rglob("*") if path.is_file())


def waiting(layout: Layout) -> list[Path]:
    return [path for path in layout.incoming.rglob("*") if path.is_file()]


def count(db: Database, table: sa.Table) -> int:
    with db.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def instance(db: Database, ds: Dataset) -> catalog.Instance:
    with db.read() as connection:
        found = catalog.find_instance(connection, ds.SOPInstanceUID)
    assert found is not None
    return found


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


def test_other_content_under_a_known_uid_never_replaces_and_goes_to_quarantine(
    db: Database, layout: Layout, send: Callable[..., Kept]
) -> None:
    ds = ct_slice()
    send(ds)
    before = stored(layout)[0].read_bytes()
    ds.PatientComments = "changed"
    kept = send(ds, Sender("ECHO", "CT2", "10.0.0.8", "a2"))
    assert "first stays" in kept.note
    assert kept.arrival_id is not None
    assert stored(layout)[0].read_bytes() == before
    (entry,) = quarantine.entries(layout)
    assert entry.calling_ae_title == "CT2"
    with db.read() as connection:
        assert events.latest(connection, 1, kind="instance conflicts")
    assert waiting(layout) == []


def test_the_same_uid_in_another_study_keeps_the_first_and_leaves_no_stray_file(
    layout: Layout, send: Callable[..., Kept]
) -> None:
    ds = ct_slice()
    send(ds)
    ds.StudyInstanceUID = "1.2.3"
    send(ds)
    assert len(stored(layout)) == 1
    assert len(quarantine.entries(layout)) == 1


@pytest.mark.parametrize("same", [True, False], ids=["one content", "eight contents"])
def test_one_uid_from_eight_senders_at_once_is_one_row_and_all_succeed(
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
def test_a_data_set_that_contradicts_its_request_is_quarantined(
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


# -- results -------------------------------------------------------------------------------------


def running_job(db: Database, ds: Dataset, ae_title: str = "ECHO") -> Job:
    with db.write() as connection:
        create(
            connection,
            NewJob(
                ae_title=ae_title,
                study_uid=ds.StudyInstanceUID,
                series_uid="",
                priority=0,
                calling_ae_title="CT1",
                address="10.0.0.9",
                input_digest="d",
                inputs=(ds.SOPInstanceUID,),
                result_seed="s",
                incomplete=False,
                first_instance_at=NOW,
                last_instance_at=NOW,
            ),
            NOW,
        )
    job = claim_next(db, ae_title, lanes=1, worker="h/1/1", lease=timedelta(seconds=60), now=NOW)
    assert job is not None
    return job


def result_of(ds: Dataset, folder: Path) -> Path:
    result = ct_slice(9, study_uid=ds.StudyInstanceUID, size=8)
    return write(result, folder / "result.dcm")


def stage(layout: Layout, job: Job, path: Path) -> results.StagedResult:
    with path.open("rb") as source:
        return results.stage(
            layout, job, path.name, source, node_ae_title="BROOKBOX",
            expected_study=job.study_uid, expected_patient="P-SEEDED-1",
        )  # fmt: skip


def test_results_are_registered_with_the_jobs_end(
    db: Database, layout: Layout, send: Callable[..., Kept], tmp_path: Path
) -> None:
    ds = ct_slice()
    send(ds)
    job = running_job(db, ds)
    staged = stage(layout, job, result_of(ds, tmp_path))
    results.register(db, layout, job, [staged], Finish("success", result_count=1), NOW)
    with db.read() as connection:
        (found,) = catalog.results_of(connection, job.id)
    assert found.path == staged.path
    assert dataset_digest(layout.root / found.path) == found.dataset_sha256
    meta = pydicom.dcmread(layout.root / found.path).file_meta
    assert meta.SourceApplicationEntityTitle == "BROOKBOX"
    assert "SendingApplicationEntityTitle" not in meta
    assert waiting(layout) == []


def test_a_result_that_comes_back_to_its_stream_opens_no_arrival(
    db: Database, layout: Layout, send: Callable[..., Kept], tmp_path: Path
) -> None:
    ds = ct_slice()
    job = running_job(db, ds)
    path = result_of(ds, tmp_path)
    results.register(db, layout, job, [stage(layout, job, path)], Finish("success"), NOW)
    result = pydicom.dcmread(path)
    result.PatientComments = "the PACS wrote something"
    back = send(result, Sender("ECHO", "PACS", "10.0.0.2", "a7"))
    assert back.is_returned
    assert back.arrival_id is None
    assert f"job {job.id}" in back.note
    assert quarantine.entries(layout) == []
    other = send(pydicom.dcmread(path), Sender("MONTAGE", "PACS", "10.0.0.2", "a7"))
    assert other.arrival_id is not None
    assert not other.is_returned


def test_a_lost_lease_leaves_nothing_behind(db: Database, layout: Layout, tmp_path: Path) -> None:
    from dataclasses import replace

    ds = ct_slice()
    job = running_job(db, ds)
    stale = replace(job, attempt=job.attempt - 1)
    staged = stage(layout, stale, result_of(ds, tmp_path))
    with pytest.raises(LeaseLost):
        results.register(db, layout, stale, [staged], Finish("success"), NOW)
    assert (stored(layout), waiting(layout)) == ([], [])
    assert count(db, schema.instances) == 0


def test_a_lost_lease_leaves_to_adoption_what_a_failed_commit_had_named(
    db: Database, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = ct_slice()
    job = running_job(db, ds)
    staged = stage(layout, job, result_of(ds, tmp_path))

    def away(*args: object) -> None:
        raise IndexUnavailable("it was restarted just now", remedy="wait")

    with monkeypatch.context() as patch, pytest.raises(IndexUnavailable):
        patch.setattr(Studies, "sync", away)
        results.register(db, layout, job, [staged], Finish("success"), NOW)
    assert stored(layout) != []
    requeue(db, job, NOW, reason="silent", counts=True, max_attempts=3)
    with pytest.raises(LeaseLost):
        results.register(db, layout, job, [staged], Finish("success"), NOW)
    adopt(db, layout, Streams(), NOW)
    assert (stored(layout), waiting(layout)) == ([], [])


def test_a_result_under_an_existing_uid_is_refused_and_named(
    db: Database, layout: Layout, send: Callable[..., Kept], tmp_path: Path
) -> None:
    ds = ct_slice()
    send(ds)
    job = running_job(db, ds)
    staged = stage(layout, job, write(ds, tmp_path / "stolen.dcm"))
    assert results.taken(db, job, [staged]) == [staged]
    with pytest.raises(DoesNotMatch, match=r"stolen\.dcm"):
        results.register(db, layout, job, [staged], Finish("success"), NOW)
    assert instance(db, ds).made_by_job is None


def test_a_second_attempt_takes_over_what_a_killed_one_linked(
    db: Database, layout: Layout, tmp_path: Path
) -> None:
    ds = ct_slice()
    job = running_job(db, ds)
    path = result_of(ds, tmp_path)
    dead = stage(layout, job, path)
    Studies(layout).link(dead.file, dead.path)  # killed before the commit
    changed = pydicom.dcmread(path)
    changed.ContentTime = "121212"
    again = stage(layout, job, write(changed, path))
    results.register(db, layout, job, [again], Finish("success"), NOW)
    assert dataset_digest(layout.root / again.path) == again.dataset_sha256


@pytest.mark.parametrize("what", ["study", "patient", "garbage"])
def test_a_bad_result_is_refused_and_leaves_no_file(
    db: Database, layout: Layout, tmp_path: Path, what: str
) -> None:
    ds = ct_slice()
    job = running_job(db, ds)
    path = result_of(ds, tmp_path)
    result = pydicom.dcmread(path)
    if what == "study":
        result.StudyInstanceUID = "1.2.3"
    if what == "patient":
        result.PatientID = "another"
    write(result, path)
    if what == "garbage":
        path.write_bytes(b"\x00" * 40)
    with pytest.raises((DoesNotMatch, CannotUnderstand)):
        stage(layout, job, path)
    assert waiting(layout) == []


def test_staging_of_older_attempts_is_swept(db: Database, layout: Layout, tmp_path: Path) -> None:
    from dataclasses import replace

    ds = ct_slice()
    job = running_job(db, ds)
    path = result_of(ds, tmp_path)
    stage(layout, job, path)
    newer = stage(layout, replace(job, attempt=2), path)
    results.sweep_staged(layout, job.id, below_attempt=2)
    assert waiting(layout) == [newer.file]
    results.sweep_staged(layout, job.id)
    assert waiting(layout) == []
