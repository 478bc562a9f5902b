"""Rows that follow the answer: the index away, two writers at once, disks that fail."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from appliance.disk import behind, commit, part_file, quarantine, space, sync
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.errors import IndexUnavailable, SyncFailed
from appliance.index import arrivals, batch, catalog, schema
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.intake import writer
from appliance.intake.adoption import adopt
from appliance.intake.arrived import Sender
from appliance.intake.going import CameBack
from appliance.streams.catalog import Streams
from tests.kit import volumes
from tests.kit.dicom import ct_slice, ct_study
from tests.kit.waiting import wait_for
from tests.unit.intake.direct import ROOMY, Road
from tests.unit.intake.given import CT1, bytes_of, count, instance, stored, waiting

NOW = datetime.now(UTC)


class Away:
    """An index that answers nothing while `is_away`."""

    def __init__(self, db: Database, patch: pytest.MonkeyPatch) -> None:
        self.is_away = True
        self.asked = 0
        for name in ("read", "write"):
            patch.setattr(db, name, self._or_away(getattr(db, name)))

    def _or_away(self, real: Any) -> Any:
        def asked() -> Any:
            self.asked += 1
            if self.is_away:
                raise IndexUnavailable("locked", remedy="wait")
            return real()

        return asked


def test_while_the_index_is_away_answers_go_on_and_nothing_is_lost(
    db: Database, layout: Layout, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ct_study(4)
    away = Away(db, monkeypatch)
    assert {road.send(ds, tmp_path).status for ds in study} == {0x0000}
    road.end()
    wait_for(lambda: away.asked > 1, "the writer tries again")
    assert road.writer.rows_behind == 4
    assert road.writer.seconds_behind > 0
    assert len(waiting(layout)) == 4
    wait_for(lambda: [one.rows for one in behind.read(layout)] == [4], "it says so in run/")
    away.is_away = False
    road.settle()
    assert count(db, schema.instances) == 4
    assert waiting(layout) == []
    with db.read() as connection:
        assert connection.scalar(sa.select(schema.associations.c.ending)) == "released"


def test_behind_for_too_long_the_answer_is_out_of_resources(
    db: Database, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = Road(db, layout, is_written=False)
    first, second = ct_study(2)
    assert road.send(first, tmp_path).status == 0x0000
    monkeypatch.setattr(writer, "_LONGEST_BEHIND_SECONDS", 0.0)
    answer = road.send(second, tmp_path)
    assert answer.status == 0xA700
    assert "index" in answer.comment
    assert [path.stem for path in stored(layout)] == [first.SOPInstanceUID]
    assert len(waiting(layout)) == 1  # of the refused one nothing is left
    monkeypatch.undo()
    road.writer.start()
    road.settle()
    assert road.send(second, tmp_path).status == 0x0000
    road.settle()
    assert count(db, schema.instances) == 2
    road.close()


def test_with_too_many_rows_behind_the_answer_waits(
    db: Database, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_MOST_BEHIND", 2)
    road = Road(db, layout, is_written=False)
    study = ct_study(5)
    answered: list[int] = []

    def send() -> None:
        answered.extend(road.send(ds, tmp_path).status for ds in study)

    thread = threading.Thread(target=send)
    thread.start()
    wait_for(lambda: road.writer.rows_behind == 3, "three are kept")
    thread.join(0.3)
    assert thread.is_alive()
    assert len(stored(layout)) == 3
    road.writer.start()
    thread.join(60)
    assert answered == [0x0000] * 5
    road.settle()
    road.close()


def test_what_a_process_leaves_without_rows_is_adopted(
    db: Database, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = Road(db, layout)
    with monkeypatch.context() as patch:
        Away(db, patch)
        study = ct_study(3)
        for ds in study:
            assert road.send(ds, tmp_path).status == 0x0000
        road.close()
    assert adopt(db, layout, Streams(), NOW) == 3
    assert count(db, schema.instances) == count(db, schema.receptions) == 3
    assert waiting(layout) == []
    assert len(stored(layout)) == 3


def test_two_writers_of_one_study_neither_wait_for_each_other_nor_mix_patients(
    db: Database, layout: Layout, tmp_path: Path
) -> None:
    both = [Road(db, layout, is_written=False) for _ in range(2)]
    mine = ct_study(30, patient_id="P1", patient_name="One")
    study_uid, series_uid = mine[0].StudyInstanceUID, mine[0].SeriesInstanceUID
    theirs = ct_study(
        30, study_uid=study_uid, series_uid=series_uid, patient_id="P2", patient_name="Two"
    )
    senders = [Sender("ECHO", f"CT{n}", "10.0.0.9", f"a{n}") for n in range(2)]
    for road, sender, study, twin in zip(
        both, senders, (mine, theirs), (theirs, mine), strict=True
    ):
        for ds, other in zip(study, reversed(twin), strict=True):
            assert road.send(ds, tmp_path, sender).status == 0x0000
            assert road.send(other, tmp_path, sender).status == 0x0000
    for road in both:
        road.writer.start()
    for road in both:
        road.settle()
    with db.read() as connection:
        (patient,) = connection.scalars(sa.select(schema.studies.c.patient_id)).all()
    won = mine if patient == "P1" else theirs
    with db.read() as connection:
        kept = {one.sop_instance_uid for one in catalog.instances_of_study(connection, study_uid)}
    assert kept == {ds.SOPInstanceUID for ds in won}
    assert {path.stem for path in stored(layout)} == kept
    assert {entry.kind for entry in quarantine.entries(layout)} == {Kind.HELD}
    assert waiting(layout) == []
    for road in both:
        road.close()


def test_the_same_instance_from_two_at_once_has_one_row_and_two_receptions(
    db: Database, layout: Layout, tmp_path: Path
) -> None:
    both = [Road(db, layout, is_written=False) for _ in range(2)]
    study = ct_study(10)
    for road, id in zip(both, ("a1", "a2"), strict=True):
        for ds in study:
            assert road.send(ds, tmp_path, replace(CT1, association_id=id)).status == 0x0000
        road.writer.start()
    for road in both:
        road.settle()
        road.close()
    assert count(db, schema.instances) == len(stored(layout)) == 10
    assert count(db, schema.receptions) == 20
    assert quarantine.entries(layout) == []


def test_an_error_that_nobody_foresaw_hits_one_instance_alone(
    db: Database, layout: Layout, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = ct_study(3)

    def odd(*args: object) -> None:
        raise ValueError("unforeseen")

    real = road.writer._work._filing.file

    def file(arrived: Any, **words: Any) -> Any:
        if arrived.header.sop_instance_uid == study[1].SOPInstanceUID:
            raise ValueError("unforeseen")
        return real(arrived, **words)

    monkeypatch.setattr(batch, "add_instances", odd)
    monkeypatch.setattr(road.writer._work._filing, "file", file)
    for ds in study:
        assert road.send(ds, tmp_path).status == 0x0000
    road.end()
    road.settle()
    assert count(db, schema.instances) == 2
    assert [path.parent.name for path in waiting(layout)] == ["left"]
    monkeypatch.undo()
    assert adopt(db, layout, Streams(), NOW) == 1
    assert count(db, schema.instances) == 3


def test_the_end_is_written_behind_the_rows_of_what_came(
    db: Database, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = arrivals.note_ends

    def noted(connection: Any, ends: Any) -> None:
        count = connection.scalar(sa.select(sa.func.count()).select_from(schema.instances))
        seen.extend([count] * len(ends))
        real(connection, ends)

    monkeypatch.setattr(arrivals, "note_ends", noted)
    for number in range(3):
        sender = replace(CT1, association_id=f"a{number}")
        for ds in ct_study(2):
            road.send(ds, tmp_path, sender)
        road.end(sender, Ending.ABORTED)
    road.settle()
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert seen[-1] == 6
    (one, *_) = arrivals.open_arrivals(db, datetime.now(UTC) - timedelta(minutes=1))
    assert one.endings == {"aborted"}


# -- disks that fail ------------------------------------------------------------------------------


def failing(number: int) -> Any:
    def fail(*args: object, **words: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_ft_22_a_full_volume_is_out_of_resources_and_leaves_nothing(
    layout: Layout, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = ct_slice()
    for call in ("writev", "link"):
        with monkeypatch.context() as patch:
            patch.setattr(part_file.os, call, failing(errno.ENOSPC))
            answer = road.send(ds, tmp_path)
        assert answer.status == 0xA700
        assert "full" in answer.comment
        assert (stored(layout), waiting(layout)) == ([], [])
    assert space.degraded(layout) == ""
    assert road.send(ds, tmp_path).status == 0x0000


def test_ft_38_without_a_descriptor_left_rows_wait_and_come(
    db: Database, layout: Layout, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, tell = [], CameBack.tell

    def no_descriptor(*of: Any) -> None:
        told.append(1)
        if len(told) < 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        tell(*of)

    monkeypatch.setattr(CameBack, "tell", no_descriptor)
    for ds in ct_study(2):
        assert road.send(ds, tmp_path).status == 0x0000
    wait_for(lambda: count(db, schema.instances) == 2, "both have their rows")
    wait_for(lambda: waiting(layout) == [], "nothing is left to adoption")


def test_a_volume_below_half_its_reserve_takes_no_more(
    layout: Layout, road: Road, tmp_path: Path
) -> None:
    road.rules = replace(ROOMY, reserve_gb=1e9)
    assert road.send(ct_slice(), tmp_path).status == 0xA700
    assert (stored(layout), waiting(layout)) == ([], [])


@pytest.mark.parametrize("call", ["fdatasync", "fsync", "syncfs"])
def test_ft_24_when_a_sync_fails_it_is_not_acknowledged_and_the_volume_is_degraded(
    db: Database,
    layout: Layout,
    road: Road,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
) -> None:
    tried: list[object] = []

    def fail(*args: object) -> int:
        tried.append(args)
        if call == "syncfs":
            return -1
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if call == "syncfs":
        monkeypatch.setattr(commit, "_syncfs", fail)
        monkeypatch.setattr(commit, "choose", lambda *facts: commit.Method.TOGETHER)
    else:
        monkeypatch.setattr(sync.os, call, fail)
    ds = ct_slice()
    assert road.send(ds, tmp_path).status == 0xA700
    assert len(tried) == 1
    assert space.degraded(layout)
    assert (stored(layout), waiting(layout)) == ([], [])
    monkeypatch.undo()
    assert road.send(ds, tmp_path).status == 0xA700  # until the receiver is started again
    road.settle()
    assert count(db, schema.instances) == 0
    space.clear_degraded(layout)
    again = Road(db, layout)
    assert again.send(ds, tmp_path).status == 0x0000
    again.close()


def test_ft_24_a_failed_sync_takes_no_name_that_somebody_registered(
    db: Database, layout: Layout, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = ct_slice()
    other = Road(db, layout)

    def registered_first(*args: object) -> None:
        # Another process files the same instance: the name that we made holds its bytes.
        with monkeypatch.context() as patch:
            patch.setattr(other.ways.commit, "file", lambda *args: None)
            assert other.send(ds, tmp_path, replace(CT1, association_id="a2")).status == 0x0000
        other.settle()
        raise SyncFailed("EIO", remedy="dmesg")

    monkeypatch.setattr(road.ways.commit, "file", registered_first)
    assert road.send(ds, tmp_path).status == 0xA700
    assert (layout.root / instance(db, ds).path).exists()
    other.close()


def test_none_never_syncs(
    layout: Layout, road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.rules = replace(ROOMY, durability="none")
    for call in ("fsync", "fdatasync"):
        monkeypatch.setattr(sync.os, call, failing(errno.EIO))
    ds = ct_slice()
    road.open(replace(CT1, association_id="a2"))
    road.writer._is_closing = True  # only the answers count here
    assert road.send(ds, tmp_path).status == 0x0000
    assert road.send(ds, tmp_path, replace(CT1, association_id="a2")).status == 0x0000
    assert len(waiting(layout)) + len(stored(layout)) >= 1


def test_ft_22_a_volume_that_fills_takes_what_fits_and_goes_on_when_there_is_room(
    db: Database, tmp_path: Path
) -> None:
    with volumes.loop_ext4(tmp_path / "volume", tmp_path / "small", 20) as place:
        small = Layout(place / "data")
        small.make()
        road = Road(db, small)
        ballast = volumes.fill(place, 2_000_000)
        study = ct_study(12, size=512)
        answers = [road.send(ds, tmp_path).status for ds in study]
        kept = answers.count(0x0000)
        assert 0 < kept < 12
        assert answers == [0x0000] * kept + [0xA700] * (12 - kept)
        road.settle()
        assert (len(stored(small)), waiting(small)) == (kept, [])
        for ds in study[:kept]:
            path = small.root / instance(db, ds).path
            assert path.read_bytes().endswith(bytes_of(ds, tmp_path))
        ballast.unlink()
        assert {road.send(ds, tmp_path).status for ds in study} == {0x0000}
        road.settle()
        assert space.degraded(small) == ""
        assert len(stored(small)) == 12
        road.close()
