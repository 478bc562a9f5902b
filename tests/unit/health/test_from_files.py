"""An index made again after a job ended without its record: its results make room for a new run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.disk.studies import Studies
from appliance.health import backups, from_files
from appliance.index import arrivals, catalog, database, events, jobs, migrate
from appliance.index import schema as t
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.index.jobs import Job
from appliance.index.rebuild import Rebuilt
from appliance.intake import results
from appliance.intake.take import Intake
from appliance.settings import Receiver, Settings
from appliance.worker import record
from tests.kit.dicom import ct_slice
from tests.unit.intake.conftest import sender_of
from tests.unit.intake.given import result_of, running_job, stage, stored


@dataclass
class Box:
    """A node's folder with a study that was received, and what a stream makes of it."""

    settings: Settings
    ds: Dataset
    result: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.settings.data_root)

    @contextlib.contextmanager
    def index(self) -> Iterator[Database]:
        db = database.connect(self.settings)
        try:
            yield db
        finally:
            db.close()

    def receive(self, ds: Dataset, folder: Path) -> None:
        with self.index() as db:
            rules = Receiver(on_conflict="replace")
            intake = Intake(db, self.layout, "BROOKBOX", lambda: rules)
            sender_of(intake, folder)(ds, level=None, now=datetime.now(UTC))
            intake.close()

    def begin_job(self) -> Job:
        with self.index() as db:
            job = running_job(db, self.ds)
            with db.write() as connection:  # after its study had come, which is today
                connection.execute(sa.update(t.jobs).values(created_at=datetime.now(UTC)))
            return job

    def end_job(self, job: Job, *, is_recorded: bool) -> None:
        """Register the result; the record is what a crash, or a copy, comes before."""
        with self.index() as db:
            staged = stage(self.layout, job, self.result)
            assert results.taken(db, job, [staged]) == []
            end, now = Finish("success", result_count=1), datetime.now(UTC)
            results.register(db, self.layout, job, [staged], end, now)
            if is_recorded:
                self.layout.job(job.id).path.mkdir(exist_ok=True)
                record.settle(db, self.layout, job.id)

    def lose_index(self) -> None:
        for file in self.layout.root.glob("index.sqlite3*"):
            file.unlink()

    def rebuild(self) -> Rebuilt:
        before = from_files.read_former(self.settings)
        now = datetime.now(UTC)
        return from_files.make_again(self.settings, before, now, "", print).rebuilt

    def results_of(self, job_id: int) -> int:
        with self.index() as db, db.read() as connection:
            return len(catalog.results_of(connection, job_id))

    def waiting(self) -> int:
        with self.index() as db:
            return len(arrivals.open_arrivals(db, datetime.now(UTC)))


def box_at(home: Path, ds: Dataset, result: Path) -> Box:
    box = Box(Settings(home=home), ds, result)
    box.layout.make()
    stream = box.settings.streams_folder / "echo"
    stream.mkdir(parents=True)
    (stream / "info.json").write_text(json.dumps({"AETitle": "ECHO"}))
    return box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    ds = ct_slice()
    box = box_at(tmp_path / "node", ds, result_of(ds, tmp_path))
    with box.index() as db:
        migrate.migrate(db)
    box.receive(ds, tmp_path)
    return box


def check_put_aside(box: Box, before: bytes) -> None:
    """See the result in quarantine, whole and in words, and the study alone in the store."""
    [entry] = quarantine.entries(box.layout)
    assert (entry.kind, entry.called_ae_title) == (Kind.LEFTOVER, "")
    assert "no record" in entry.reason and entry.remedy
    assert quarantine.file_of(box.layout, entry.id).read_bytes() == before
    assert len(stored(box.layout)) == 1


def result_in(box: Box) -> Path:
    return max(stored(box.layout), key=lambda path: path.stat().st_mtime_ns)


# -- a crash between a job's end and its record ------------------------------------------------


def test_a_result_without_record_makes_room_for_the_job_that_runs_anew(box: Box) -> None:
    box.end_job(box.begin_job(), is_recorded=False)
    before = result_in(box).read_bytes()
    box.lose_index()
    done = box.rebuild()
    assert (done.instances, done.jobs, done.arrivals, len(done.leftovers)) == (1, 0, 1, 1)
    check_put_aside(box, before)
    again = box.begin_job()
    box.end_job(again, is_recorded=True)
    assert box.results_of(again.id) == 1
    box.lose_index()
    done = box.rebuild()
    assert (done.instances, done.jobs, done.arrivals, done.leftovers) == (2, 1, 0, ())


def test_a_job_that_was_cancelled_while_it_waited_is_not_made_anew(
    box: Box, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    box.receive(box.ds, tmp_path)
    new = jobs.NewJob("ECHO", box.ds.StudyInstanceUID, "", 0, "CT1", "::1", "d",
                      (box.ds.SOPInstanceUID,), "s", False, now, now)  # fmt: skip
    with box.index() as db:
        with db.write() as connection:
            job_id = jobs.create(connection, new, now)
        jobs.cancel(db, job_id, "Ann", datetime.now(UTC))
        assert record.settle_unrun(db, box.layout, now) == 1
    box.lose_index()
    done = box.rebuild()
    assert (done.jobs, done.arrivals, done.next_job_id) == (1, 0, job_id + 1)


def test_jobs_that_were_lost_whole_run_anew(box: Box) -> None:
    box.end_job(box.begin_job(), is_recorded=True)
    before = result_in(box).read_bytes()
    box.lose_index()
    for file in sorted(box.layout.jobs.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert (len(box.rebuild().leftovers), box.waiting()) == (1, 1)
    check_put_aside(box, before)


def test_a_result_whose_job_the_former_index_knew_as_ended_stays(box: Box) -> None:
    box.end_job(box.begin_job(), is_recorded=False)
    done = box.rebuild()
    assert (done.instances, done.arrivals, done.leftovers) == (2, 0, ())
    assert len(stored(box.layout)) == 2 and quarantine.entries(box.layout) == []


@pytest.mark.parametrize("step", ["committed", "described"])
def test_a_rebuild_that_was_killed_may_be_repeated(
    box: Box, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    box.end_job(box.begin_job(), is_recorded=False)
    before = result_in(box).read_bytes()
    box.lose_index()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            *(from_files, "put_aside") if step == "committed" else (Studies, "set_aside"), die
        )
        box.rebuild()
    assert len(stored(box.layout)) == 2 and quarantine.entries(box.layout) == []
    assert len(box.rebuild().leftovers) == 1
    check_put_aside(box, before)


def test_a_node_that_starts_after_a_killed_rebuild_registers_the_result_all_the_same(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.end_job(box.begin_job(), is_recorded=False)
    box.lose_index()
    monkeypatch.setattr(from_files, "put_aside", lambda layout, done: done)
    box.rebuild()
    again = box.begin_job()
    box.end_job(again, is_recorded=True)
    assert box.results_of(again.id) == 1


# -- a job that ended while the backup was made ------------------------------------------------


@pytest.mark.parametrize("before_copy", ["jobs", "quarantine", "studies"])
@pytest.mark.parametrize("is_recorded", [True, False])
def test_ft_37_a_job_that_ended_during_the_backup_is_whole_after_the_restore(
    box: Box,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before_copy: str,
    is_recorded: bool,
) -> None:
    job, real, ended = box.begin_job(), backups.copy_tree, []

    def copy(source: Path, target: Path, **words: bool) -> object:
        if source.name == before_copy and not ended:
            ended.append(box.end_job(job, is_recorded=is_recorded))
        return real(source, target, **words)

    with monkeypatch.context() as patch:
        patch.setattr(backups, "copy_tree", copy)
        saved = backups.make_backup(
            box.settings, tmp_path / "to", datetime.now(UTC), with_files=True
        )
    elsewhere, done = restored(box, saved, tmp_path / "elsewhere")
    knows = is_recorded and before_copy == "jobs"
    assert (done.jobs, done.instances, len(done.leftovers)) == ((1, 1, 0) if knows else (0, 0, 1))
    with elsewhere.index() as db, db.read() as connection:
        found = jobs.get(connection, job.id)
        told = [one.job_id for one in events.latest(connection, 9, kind="job succeeded")]
    assert found.state == ("succeeded" if knows else "running")
    assert told == ([job.id] if knows else [])
    if not knows:  # the node sees that nobody runs it, and has it run again
        elsewhere.end_job(found, is_recorded=True)
    assert elsewhere.results_of(job.id) == 1


def restored(box: Box, saved: backups.Backup, home: Path) -> tuple[Box, from_files.CaughtUp]:
    other = box_at(home, box.ds, box.result)
    now = datetime.now(UTC)
    backups.restore_backup(other.settings, backups.read_backup(saved.folder), now)
    return other, from_files.catch_up(other.settings, saved.made_at, now, "", print)


def test_ft_37_a_content_that_was_replaced_during_the_backup_is_in_quarantine(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, real = stored(box.layout)[0].read_bytes(), backups.copy_tree

    def copy(source: Path, target: Path, **words: bool) -> object:
        done = real(source, target, **words)
        if source.name == "studies":
            # As a copy sees it that comes between the commit and the move of the older one.
            box.ds.PatientComments = "changed"
            box.receive(box.ds, tmp_path)
            real(source, target, **words)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(backups, "copy_tree", copy)
        saved = backups.make_backup(
            box.settings, tmp_path / "to", datetime.now(UTC), with_files=True
        )
    assert len(list((saved.folder / "data" / "studies").rglob("*.dcm"))) == 2
    elsewhere, done = restored(box, saved, tmp_path / "elsewhere")
    assert len(done.older) == 1
    assert [path.name for path in stored(elsewhere.layout)] == [stored(box.layout)[0].name]
    kinds = {entry.kind for entry in quarantine.entries(elsewhere.layout)}
    assert kinds == {Kind.REPLACED}
    for entry in quarantine.entries(elsewhere.layout):
        assert quarantine.file_of(elsewhere.layout, entry.id).read_bytes() == first
        assert entry.called_ae_title == "ECHO" and entry.calling_ae_title == "CT1"
