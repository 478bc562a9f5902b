"""Results: staged, registered with the end of their job, refused, swept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.studies import Studies, dataset_digest
from appliance.errors import (
    CannotUnderstand,
    DoesNotMatch,
    IndexUnavailable,
    LeaseLost,
)
from appliance.index import catalog, schema
from appliance.index.attempts import Finish, requeue
from appliance.index.database import Database
from appliance.intake import results
from appliance.intake.adoption import adopt
from appliance.intake.filing import Kept, Sender
from appliance.streams.catalog import Streams
from tests.kit.dicom import ct_slice, write
from tests.unit.intake.given import (
    NOW,
    count,
    instance,
    result_of,
    running_job,
    stage,
    stored,
    waiting,
)


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
