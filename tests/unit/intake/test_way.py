"""The direct road: answered once the file is kept, and its fate is the right one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from appliance.dicom import part10
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.index import arrivals, catalog, events, schema
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.intake import results
from appliance.intake.arrived import Sender
from tests.kit.dicom import ct_slice, ct_study
from tests.kit.waiting import wait_for
from tests.unit.intake.direct import ROOMY, Road
from tests.unit.intake.given import (
    CT1,
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

CT2 = Sender("ECHO", "CT2", "10.0.0.8", "a2", port=5, local="dicom:10.0.0.1:11113")
OTHER = Sender("OTHER", "CT1", "10.0.0.9", "a3")


@pytest.fixture(params=["committed", "none"])
def durability(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_study_is_kept_byte_for_byte_with_all_its_rows(
    db: Database, layout: Layout, road: Road, tmp_path: Path, durability: str
) -> None:
    road.rules = replace(ROOMY, durability=durability)
    study = ct_study(5)
    assert {road.send(ds, tmp_path).status for ds in study} == {0x0000}
    road.end()
    road.settle()
    for ds in study:
        row = instance(db, ds)
        meta, header, start = part10.read_file(layout.root / row.path)
        assert (layout.root / row.path).read_bytes()[start:] == bytes_of(ds, tmp_path)
        assert row.size_bytes == (layout.root / row.path).stat().st_size
        assert (meta.sending_ae_title, meta.receiving_ae_title) == ("CT1", "ECHO")
        assert meta.source_ae_title == "BROOKBOX"
        assert header.sop_instance_uid == ds.SOPInstanceUID == row.sop_instance_uid
    assert waiting(layout) == []
    assert count(db, schema.receptions) == 5
    (arrival,) = arrivals.open_arrivals(db, NOW)
    assert (arrival.study_uid, arrival.series_uid) == (study[0].StudyInstanceUID, "")
    assert arrival.endings == {"released"}
    with db.read() as connection:
        times = [row.received_at for row in connection.execute(sa.select(schema.receptions))]
        kept = catalog.find_study(connection, study[0].StudyInstanceUID)
        (told,) = events.latest(connection, 9, kind="association closed")
        opened = connection.execute(sa.select(schema.associations)).one()
    assert (arrival.opened_at, arrival.last_instance_at) == (min(times), max(times))
    assert kept is not None
    assert (kept.first_received_at, kept.last_received_at) == (min(times), max(times))
    assert "sent 5 instances to ECHO" in told.sentence
    assert opened.instances == 5


def test_file_meta_is_what_the_stock_road_writes(
    layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice()
    way = road.ways.way(CT1, "study", ds.SOPClassUID, "1.2.840.10008.1.2.1", road.open())
    meta = way.meta(ds.SOPClassUID, ds.SOPInstanceUID)
    assert way.head(ds.SOPClassUID, ds.SOPInstanceUID) == part10.encode(meta)


def test_the_name_in_incoming_stays_until_the_row_is_committed(
    db: Database, layout: Layout, tmp_path: Path
) -> None:
    road = Road(db, layout, is_written=False)
    assert road.send(ct_slice(), tmp_path).status == 0x0000
    (name,) = waiting(layout)
    (stored_one,) = stored(layout)
    assert name.samefile(stored_one)
    assert name.name.endswith(".part")
    assert stored_one.stat().st_mode & 0o777 == 0o440
    assert road.writer.rows_behind == 1
    road.writer.start()
    road.settle()
    assert waiting(layout) == []
    assert count(db, schema.instances) == 1
    road.close()


def test_a_draft_that_is_dropped_leaves_nothing(layout: Layout, road: Road, tmp_path: Path) -> None:
    ds = ct_slice()
    draft = road.draft(ds)
    draft.write([memoryview(bytes_of(ds, tmp_path))[:500]])
    draft.drop()
    draft.drop()
    assert (stored(layout), waiting(layout)) == ([], [])


def test_a_second_ae_title_gets_a_reception_and_an_arrival_of_its_own(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    study = ct_study(3)
    for sender in (CT1, OTHER):
        assert {road.send(ds, tmp_path, sender).status for ds in study} == {0x0000}
    road.settle()
    assert count(db, schema.instances) == 3
    assert count(db, schema.receptions) == 6
    assert {one.called_ae_title for one in arrivals.open_arrivals(db, NOW)} == {"ECHO", "OTHER"}
    assert waiting(layout) == []
    assert quarantine.entries(layout) == []


def test_other_content_under_a_known_uid_goes_to_quarantine_and_loses_no_byte(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    before = stored(layout)[0].read_bytes()
    ds.PatientComments = "changed"
    assert road.send(ds, tmp_path, CT2).status == 0x0000
    road.settle()
    (entry,) = quarantine.entries(layout)
    assert entry.kind == Kind.CONFLICT
    assert road.tallies["a2"].conflicts == 1
    assert stored(layout)[0].read_bytes() == before
    assert waiting(layout) == []


def test_in_one_batch_the_first_of_two_contents_stays(
    db: Database, layout: Layout, tmp_path: Path
) -> None:
    road = Road(db, layout, is_written=False)
    ds = ct_slice()
    first = bytes_of(ds, tmp_path)
    road.send(ds, tmp_path)
    ds.PatientComments = "changed"
    road.send(ds, tmp_path, CT2)
    road.send(ds, tmp_path, OTHER, data=first)
    road.writer.start()
    road.settle()
    assert instance(db, ds).size_bytes == stored(layout)[0].stat().st_size
    assert stored(layout)[0].read_bytes().endswith(first)
    assert [entry.kind for entry in quarantine.entries(layout)] == [Kind.CONFLICT]
    assert count(db, schema.receptions) == 3
    road.close()


def test_replace_moves_the_row_and_sets_the_older_one_aside(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    road.rules = replace(ROOMY, on_conflict="replace")
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    for comment in ("second", "third"):
        ds.PatientComments = comment
        assert road.send(ds, tmp_path, CT2).status == 0x0000
        road.settle()
        (path,) = stored(layout)
        assert layout.root / instance(db, ds).path == path
        assert path.read_bytes().endswith(bytes_of(ds, tmp_path))
    assert path.name.endswith(".v3.dcm")
    assert [entry.kind for entry in quarantine.entries(layout)] == [Kind.REPLACED] * 2
    assert waiting(layout) == []


def test_a_resend_of_what_was_replaced_takes_no_name_of_its_own(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    road.rules = replace(ROOMY, on_conflict="replace")
    ds = ct_slice()
    road.send(ds, tmp_path)
    ds.PatientComments = "second"
    road.send(ds, tmp_path, CT2)
    road.settle()
    road.send(ds, tmp_path, OTHER)  # the place of a first content is free now
    road.settle()
    assert [path.name for path in stored(layout)] == [f"{ds.SOPInstanceUID}.v2.dcm"]
    assert [entry.kind for entry in quarantine.entries(layout)] == [Kind.REPLACED]
    assert count(db, schema.receptions) == 3


def test_refuse_decides_before_the_answer(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    road.rules = replace(ROOMY, on_conflict="refuse")
    ds = ct_slice()
    assert road.send(ds, tmp_path).status == 0x0000
    assert count(db, schema.instances) == 1  # no need to wait: it was committed before the answer
    ds.PatientComments = "changed"
    assert road.send(ds, tmp_path, CT2).status == 0x0124
    (entry,) = quarantine.entries(layout)
    assert (entry.kind, entry.status) == (Kind.CONFLICT, 0x0124)
    assert waiting(layout) == []


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_a_study_of_another_patient_and_a_series_of_another_study_are_held(
    db: Database, layout: Layout, tmp_path: Path, in_one_batch: bool
) -> None:
    road = Road(db, layout, is_written=not in_one_batch)
    first = ct_slice()
    stranger = ct_slice(
        2, study_uid=first.StudyInstanceUID, patient_id="P2", patient_name="Another"
    )
    strayed = ct_slice(3, series_uid=first.SeriesInstanceUID)
    joins = ct_slice(4, study_uid=first.StudyInstanceUID, series_uid=first.SeriesInstanceUID)
    for ds in (first, stranger, strayed, joins):
        assert road.send(ds, tmp_path).status == 0x0000
        if not in_one_batch:
            road.settle()
    if in_one_batch:
        road.writer.start()
        road.settle()
    assert {entry.sop_instance_uid for entry in quarantine.entries(layout)} == {
        stranger.SOPInstanceUID, strayed.SOPInstanceUID,
    }  # fmt: skip
    assert {entry.kind for entry in quarantine.entries(layout)} == {Kind.HELD}
    assert road.tallies["a1"].held == 2
    assert [path.stem for path in stored(layout)] == sorted(
        [first.SOPInstanceUID, joins.SOPInstanceUID]
    )
    assert count(db, schema.instances) == 2
    road.close()


def test_a_uid_that_is_used_in_another_study_takes_no_name_there(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    twice = ct_slice(2)
    twice.SOPInstanceUID = ds.SOPInstanceUID
    assert road.send(twice, tmp_path, CT2).status == 0x0000
    road.settle()
    assert stored(layout) == [layout.root / instance(db, ds).path]
    assert len(quarantine.entries(layout)) == 1


def test_a_result_that_comes_back_opens_no_arrival(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice()
    road.send(ds, tmp_path)
    road.settle()
    job = running_job(db, ds)
    staged = stage(layout, job, result_of(ds, tmp_path))
    results.register(db, layout, job, [staged], Finish("success"), NOW)
    path = layout.root / staged.path
    start = part10.read_meta(path)[1]
    back = ct_slice(9, study_uid=ds.StudyInstanceUID)
    back.SOPInstanceUID = staged.header.sop_instance_uid
    back.SOPClassUID = staged.header.sop_class_uid
    before = count(db, schema.arrivals)
    road.send(back, tmp_path, CT2, data=path.read_bytes()[start:])
    road.settle()
    assert road.tallies["a2"].returned == 1
    assert count(db, schema.arrivals) == before


@pytest.mark.parametrize(
    ("what", "status"),
    [("empty", 0xA900), ("cut", 0xC000), ("other", 0xA900), ("noise", 0xC000)],
)
def test_what_cannot_be_kept_is_refused_and_in_quarantine_as_it_came(
    layout: Layout, road: Road, tmp_path: Path, what: str, status: int
) -> None:
    ds = ct_slice()
    data = bytes_of(ds, tmp_path)
    sent = {"empty": b"", "cut": data[:-100], "other": data, "noise": b"not a data set at all"}
    if what == "other":
        ds.SOPInstanceUID = "1.2.3"
    answer = road.send(ds, tmp_path, data=sent[what])
    assert answer.status == status
    assert 0 < len(answer.comment) <= 64
    assert stored(layout) == []
    (entry,) = quarantine.entries(layout)
    file = quarantine.file_of(layout, entry.id)
    assert file.read_bytes().endswith(sent[what])
    assert entry.dataset_sha256 == hashlib.sha256(sent[what]).hexdigest()
    assert waiting(layout) == []


def test_a_missing_uid_is_made_where_the_settings_say_so(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    road.rules = replace(ROOMY, coerce=True)
    ds = ct_slice()
    del ds.StudyInstanceUID
    answer = road.send(ds, tmp_path)
    assert (answer.status, road.tallies["a1"].coerced) == (0xB000, 1)
    assert instance(db, ds).marks == "coerced"
    assert waiting(layout) == []


def test_marks_are_told_where_the_settings_say_so(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    ds = ct_slice(patient_id="")
    assert road.send(ds, tmp_path).status == 0x0000
    road.rules = replace(ROOMY, warn_of_marks=True)
    other = ct_slice(patient_id="")
    assert road.send(other, tmp_path).status == 0xB007
    road.settle()
    assert instance(db, ds).marks == instance(db, other).marks == "no-patient-id"


def test_a_study_that_is_being_erased_waits_and_is_then_a_new_one(
    db: Database, layout: Layout, road: Road, tmp_path: Path
) -> None:
    first, second = ct_study(2)
    road.send(first, tmp_path)
    road.settle()
    going = sa.update(schema.studies).values(going_since=NOW)
    with db.write() as connection:
        connection.execute(going)
    assert road.send(second, tmp_path).status == 0x0000
    road.end()
    wait_for(lambda: road.writer._work.later, "it waits for the erasure")
    assert road.writer.rows_behind == 1
    assert road.writer.seconds_behind == 0  # an erasure may take its time
    with db.write() as connection:
        assert connection.scalar(sa.select(schema.associations.c.closed_at)) is None
        for table in (schema.receptions, schema.instances, schema.series, schema.studies):
            connection.execute(sa.delete(table))
    for path in stored(layout):
        path.unlink()
    road.settle()
    assert instance(db, second).study_uid == second.StudyInstanceUID
    assert stored(layout) == [layout.root / instance(db, second).path]
    with db.read() as connection:
        assert connection.scalar(sa.select(schema.associations.c.ending)) == "released"


def test_a_name_that_somebody_took_away_before_the_row_is_given_again(
    db: Database, layout: Layout, tmp_path: Path
) -> None:
    road = Road(db, layout, is_written=False)
    study = ct_study(3)
    for ds in study:
        road.send(ds, tmp_path)
    stored(layout)[0].unlink()  # as the housekeeper does with names of no row
    moved = ct_slice()
    road.send(moved, tmp_path)
    series = next(layout.studies.rglob(str(moved.SeriesInstanceUID)))
    series.rename(layout.trash / "moved")  # as an erasure does
    road.writer.start()
    road.settle()
    for ds in (*study, moved):
        assert (layout.root / instance(db, ds).path).exists()
    with db.read() as connection:
        assert len(catalog.instances_of_study(connection, study[0].StudyInstanceUID)) == 3
    road.close()
