"""Erasure step by step: killed anywhere it is finished, and what comes meanwhile is not lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from appliance.disk import trash
from appliance.disk.layout import Layout
from appliance.errors import ErasureError, IndexUnavailable, StudyGoing
from appliance.health import node_checks
from appliance.health.overview import overview
from appliance.index import erasure, events, jobs, retention
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.extent import Subject
from appliance.index.going import check_not_going
from appliance.intake.adoption import adopt
from appliance.intake.filing import Filing
from appliance.intake.take import Intake
from appliance.settings import Settings
from appliance.streams.catalog import Streams
from tests.kit.dicom import ct_slice, ct_study, write
from tests.kit.waiting import wait_for
from tests.promises.erasing import PATIENT, Box, bytes_below, killed_at

STEPS = ("begin", "marked", "files", "one_file", "rows", "bytes", "logs", "index", "end")


@pytest.fixture
def box(index_settings: Settings, db: Database, tmp_path: Path) -> Iterator[Box]:
    layout = Layout(index_settings.data_root)
    layout.make()
    intake = Intake(db, layout, "BROOKBOX")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    yield Box(index_settings, db, intake, scratch)
    intake.close()


@pytest.mark.parametrize(
    ("index_settings", "step"),
    [*(("sqlite", step) for step in STEPS), ("postgresql", "marked"), ("postgresql", "bytes")],
    indirect=["index_settings"],
)
def test_forget_that_is_killed_at_any_step_is_finished(box: Box, step: str) -> None:
    study, other = ct_study(3), ct_study(2, patient_id="P-2", patient_name="Other^One")
    for ds in (*study, *other):
        box.send(ds)
    box.job(study[0].StudyInstanceUID)
    (box.layout.logs / "x.log").write_text(f'{{"study": "{study[0].StudyInstanceUID}"}}\n')
    before = {path: raw for path, raw in bytes_below(box.layout.studies).items() if b"P-2" in raw}
    killed_at(box, step)
    [erasure_id] = trash.begun(box.layout)
    [finding] = node_checks.check_erasures(box.settings)  # as the doctor tells it
    assert erasure_id in finding.sentence and "forget --finish" in finding.remedy
    assert overview(box.settings, box.db).erasures == (erasure_id,)
    assert [one.subject for one in box.erasing.finish_all(datetime.now(UTC))] == [PATIENT]
    assert box.found(study) == []
    assert trash.begun(box.layout) == []
    assert bytes_below(box.layout.studies) == before and before
    assert [event.kind for event in box.events()] == ["erased"]
    assert box.count(t.tombstones) == 2
    assert box.erasing.finish_all(datetime.now(UTC)) == []


@pytest.mark.parametrize(
    ("index_settings", "step"),
    [("sqlite", "files"), ("sqlite", "logs"), ("postgresql", "rows")],
    indirect=["index_settings"],
)
def test_forget_is_finished_by_asking_again(box: Box, step: str) -> None:
    study = ct_study(2)
    for ds in study:
        box.send(ds)
    killed_at(box, step)
    assert box.erasing.erase(PATIENT, "me", datetime.now(UTC)) is None  # nothing more was left
    assert box.found(study) == []


def test_forget_that_was_killed_leaves_what_came_anew(box: Box) -> None:
    """After the rows are gone the folder of that name is another's, and stays."""
    study = ct_study(2)
    for ds in study:
        box.send(ds)
    killed_at(box, "bytes")
    for ds in study:
        assert box.send(ds).is_new
    kept = bytes_below(box.layout.studies)
    assert len(kept) == 2
    box.erasing.finish_all(datetime.now(UTC))
    assert bytes_below(box.layout.studies) == kept
    assert box.count(t.instances) == 2


def test_forget_keeps_what_comes_meanwhile_as_a_new_study(box: Box) -> None:
    study = ct_study(2)
    for ds in study:
        box.send(ds)
    killed_at(box, "rows")  # marked, its files in trash/
    came: list[object] = []
    thread = threading.Thread(target=lambda: came.append(box.send(study[0])))
    thread.start()
    waiting = box.layout.incoming
    wait_for(lambda: any(p.is_file() for p in waiting.rglob("*")), "it came and waits")
    assert came == []
    box.erasing.finish_all(datetime.now(UTC))
    thread.join(30)
    assert getattr(came[0], "is_new", False)
    [file] = bytes_below(box.layout.studies).values()
    assert b"Seeded^Name" in file
    [event] = box.events("erased before")
    assert event.study_uid == study[0].StudyInstanceUID and "kept as new" in event.sentence
    assert box.count(t.instances) == box.count(t.studies) == 1


def test_forget_that_does_not_end_has_the_sender_told_to_try_again(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Filing.file.__kwdefaults__, "patience_seconds", 0.3)
    study = ct_study(2)
    for ds in study:
        box.send(ds)
    killed_at(box, "rows")
    with pytest.raises(IndexUnavailable, match="being erased"):  # answered 0xA700
        box.send(study[0])
    assert box.count(t.instances) == 2
    box.erasing.finish_all(datetime.now(UTC))
    assert box.send(study[0]).is_new


def test_forget_makes_no_job_of_a_going_study_and_retention_passes_it_by(box: Box) -> None:
    [ds] = ct_study(1)
    old = datetime.now(UTC) - timedelta(days=900)
    box.send(ds, at=old)
    failed = box.job(ds.StudyInstanceUID, "failed")
    with box.db.write() as connection:
        connection.execute(sa.update(t.jobs).values(ended_at=old, routed_at=old))
    with box.db.read() as connection:
        [holding] = retention.received(connection)
    erasure.begin(box.db, PATIENT, datetime.now(UTC))
    with pytest.raises(StudyGoing):
        jobs.retry(box.db, failed, datetime.now(UTC))
    with pytest.raises(StudyGoing):
        box.job(ds.StudyInstanceUID)
    with box.db.read() as connection:
        assert retention.received(connection) == []
    assert retention.forget(box.db, holding) == []
    assert box.count(t.jobs) == 1
    # No journal speaks of this mark, such as one out of a backup: it is taken away.
    assert box.erasing.finish_all(datetime.now(UTC)) == []
    with box.db.read() as connection:
        assert retention.received(connection) == [holding]


@pytest.mark.parametrize("what", ["arrival", "queued", "running"])
def test_forget_is_refused_while_something_of_it_goes_on(box: Box, what: str) -> None:
    study = ct_study(2)
    box.send(study[0])
    if what == "arrival":
        box.send(study[1], level="study")
    else:
        box.job(study[0].StudyInstanceUID, what)
    before = bytes_below(box.layout.studies)
    said = "arrival 1 for ECHO is open" if what == "arrival" else f"job 1 of ECHO is {what}"
    with pytest.raises(ErasureError, match=said):
        box.erase()
    assert bytes_below(box.layout.studies) == before
    assert trash.begun(box.layout) == []
    with box.db.read() as connection:
        assert connection.scalar(sa.select(t.studies.c.going_since)) is None


def test_forget_keeps_what_comes_under_a_uid_that_is_going_out_of_its_way(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another study's instance that has the UID of one that goes must not be tied to it."""
    monkeypatch.setitem(Filing.file.__kwdefaults__, "patience_seconds", 0.3)
    [ds] = ct_study(1)
    box.send(ds)
    killed_at(box, "rows")
    other = ct_slice(2, patient_id="P-OTHER", patient_name="Other^One")
    other.SOPInstanceUID = ds.SOPInstanceUID
    with pytest.raises(IndexUnavailable, match="being erased"):
        box.send(other)
    box.erasing.finish_all(datetime.now(UTC))
    assert box.send(other).is_new


def test_forget_a_study_of_which_only_jobs_are_left(box: Box) -> None:
    """Its instances went by their age; what comes of it meanwhile must wait all the same."""
    uid = "1.2.826.0.1.3680043.8.498.77"
    job_id = box.job(uid)
    subject = Subject("study", uid)
    killed_at(box, "rows", subject)
    ds = ct_slice(1, study_uid=uid)
    with box.db.read() as connection, pytest.raises(StudyGoing):
        check_not_going(connection, ds.StudyInstanceUID, is_question=True)
    box.erasing.finish_all(datetime.now(UTC))
    assert (box.count(t.jobs), box.count(t.studies), box.count(t.tombstones)) == (0, 0, 2)
    assert not box.layout.job(job_id).path.exists()
    assert box.erasing.erase(subject, "me", datetime.now(UTC)) is None


def test_forget_leaves_events_that_say_no_more_of_it(box: Box) -> None:
    [ds] = ct_study(1)
    box.send(ds)
    uid, at = ds.StudyInstanceUID, datetime.now(UTC).replace(microsecond=0)
    with box.db.write() as connection:
        events.append(connection, "a", f"Of {uid}.", at, who="CT1", study_uid=uid, n=uid)
        events.append(connection, "b", "Two came.", at, who="CT1", studies=[uid, "1.2.3"])
        events.append(connection, "c", "Another.", at, who="CT1", study_uid="1.2.3", n="4")
    box.erase()
    assert box.found([ds]) == []
    told = {event.kind: event for event in box.events()}
    assert {(told[kind].who, told[kind].at) for kind in "abc"} == {("CT1", at)}
    assert told["a"].study_uid == "" and told["a"].facts == "{}"
    assert told["a"].sentence.startswith("Erased. Erasure ")
    assert told["b"].sentence == "Two came." and '"1.2.3"' in told["b"].facts
    assert told["c"].study_uid == "1.2.3" and told["c"].facts == '{"n": "4"}'
    assert "erased: 1 study, 1 instance" in told["erased"].sentence


def test_forget_loses_nothing_of_what_is_sent_on_and_on(box: Box) -> None:
    """Whatever was acknowledged after the last erasure had ended is there, whole."""
    study = ct_study(3)
    for ds in study:
        box.send(ds)
    stop, failures = threading.Event(), list[Exception]()

    def send_on() -> None:
        while not stop.is_set():
            for ds in study:
                try:
                    box.send(ds)
                except IndexUnavailable as error:  # answered 0xA700: the sender tries again
                    failures.append(error)

    thread = threading.Thread(target=send_on)
    thread.start()
    for _ in range(4):
        box.erasing.erase(PATIENT, "me", datetime.now(UTC))
    stop.set()
    thread.join(60)
    for ds in study:
        box.send(ds)
    with box.db.read() as connection:
        paths = set(connection.scalars(sa.select(t.instances.c.path)))
    kept = bytes_below(box.layout.studies)
    assert {str(Path(path).relative_to(box.layout.root)) for path in kept} == paths
    assert len(paths) == 3 and all(b"Seeded^Name" in raw for raw in kept.values())
    assert trash.begun(box.layout) == []


def test_forget_takes_leftovers_that_adoption_would_file_anew(box: Box) -> None:
    """A leftover of a study that is being erased goes with it, whoever comes first."""
    study = ct_study(2)
    for ds in study:
        box.send(ds)
    killed_at(box, "files")
    left = box.layout.incoming / "p-dead"
    left.mkdir()
    write(study[0], left / "a1.b2")
    assert adopt(box.db, box.layout, Streams(), datetime.now(UTC)) == 0
    assert not (left / "a1.b2").exists()
    left.mkdir(exist_ok=True)
    write(study[0], left / "a1.b3")
    box.erasing.finish_all(datetime.now(UTC))
    assert box.found(study) == []


def test_forget_asked_for_twice_at_once_erases_once(box: Box) -> None:
    study = ct_study(3)
    for ds in study:
        box.send(ds)
    done: list[object] = []

    def ask() -> None:
        done.append(box.erasing.erase(PATIENT, "me", datetime.now(UTC)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 4 and sum(one is not None for one in done) == 1
    assert box.count(t.tombstones) == 2
    assert box.found(study) == []


def test_forget_takes_results_under_another_study_and_leaves_the_rest_of_it(box: Box) -> None:
    """A stream that changes the patient makes results that no search for the patient finds."""
    [ds] = ct_study(1)
    box.send(ds)
    job_id = box.job(ds.StudyInstanceUID)
    whole = ct_slice(1, patient_id="ANON-1", patient_name="Anon^One")
    mixed = [ct_slice(1, patient_id="ANON-2", patient_name="Anon^Two") for _ in range(2)]
    mixed[1].StudyInstanceUID = mixed[0].StudyInstanceUID
    for one in (whole, *mixed):
        box.send(one)
    made = [whole.SOPInstanceUID, mixed[1].SOPInstanceUID]
    with box.db.write() as connection:
        is_made = t.instances.c.sop_instance_uid.in_(made)
        connection.execute(sa.update(t.instances).where(is_made).values(made_by_job=job_id))
    view = box.erasing.preview(PATIENT, datetime.now(UTC))
    assert {one.study_uid for one in view.extent.studies if one.is_made} == {whole.StudyInstanceUID}
    assert [one.sop_instance_uid for one in view.extent.results] == [mixed[1].SOPInstanceUID]
    box.erase()
    for gone in (ds, whole):
        assert box.found([gone]) == []
    with box.db.read() as connection:
        left = list(connection.scalars(sa.select(t.instances.c.sop_instance_uid)))
    assert left == [mixed[0].SOPInstanceUID]
    assert [Path(path).stem for path in bytes_below(box.layout.studies)] == left


def test_forget_of_what_a_job_of_another_study_made_empties_its_output(box: Box) -> None:
    [ds] = ct_study(1, patient_id="P-2", patient_name="Other^One")
    box.send(ds)
    job_id = box.job(ds.StudyInstanceUID)
    made = ct_slice(1)
    box.send(made)
    with box.db.write() as connection:
        mine = t.instances.c.sop_instance_uid == made.SOPInstanceUID
        connection.execute(sa.update(t.instances).where(mine).values(made_by_job=job_id))
        connection.execute(sa.update(t.jobs).values(result_count=1))
    folder = box.layout.job(job_id)
    (folder.output / "made.dcm").write_bytes(b"Seeded^Name")
    folder.record.write_text(f'{{"id": {job_id}, "results": ["{made.SOPInstanceUID}"]}}')
    box.erase()
    assert box.found([made]) == []
    assert folder.record.exists() and ds.StudyInstanceUID in folder.log.read_text()
    with box.db.read() as connection:
        assert jobs.get(connection, job_id).result_count == 0


def test_forget_a_study_leaves_the_patients_other_studies(box: Box) -> None:
    first, second = ct_study(1), ct_study(1)
    for ds in (*first, *second):
        box.send(ds)
    box.erase(Subject("study", first[0].StudyInstanceUID))
    assert [row for row in box.found(first) if first[0].StudyInstanceUID in row] == []
    assert len(bytes_below(box.layout.studies)) == 1
    assert box.count(t.tombstones) == 2
