"""What is in quarantine with UIDs of what is erased, but is another patient's, stays there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.health import backups
from appliance.index import schema as t
from appliance.index.extent import Subject
from appliance.intake.adoption import adopt
from appliance.settings import Settings
from appliance.streams.catalog import Streams
from tests.kit.dicom import ct_slice, ct_study, write
from tests.promises.erasing import CHECKOUT, PATIENT, Box, bytes_below, empty_box, killed_at
from tests.unit.intake.given import stored

EARLIER = datetime.now(UTC) - timedelta(hours=1)
SQLITE = pytest.mark.parametrize("index_settings", ["sqlite"], indirect=True)


@pytest.fixture
def box(index_settings: Settings, tmp_path: Path) -> Iterator[Box]:
    """A node's folder, on which nothing runs."""
    settings = Settings(home=tmp_path / "node", index=index_settings.index)
    with empty_box(settings, tmp_path / "scratch") as made:
        yield made


@dataclass
class Mixed:
    """A patient's study, and what came under UIDs of it; ids of quarantine."""

    study: list[Dataset]
    mine: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def subject_study(self) -> Subject:
        return Subject("study", self.study[0].StudyInstanceUID)


def sent(box: Box) -> Mixed:
    """Send the study, then two files of its patient and two of others, which are put aside."""
    study = ct_study(2)
    uid, sop = study[0].StudyInstanceUID, study[0].SOPInstanceUID
    other = {"patient_id": "P-OTHER", "patient_name": "Other^One"}
    conflict, nameless = ct_slice(7, study_uid=uid, rng_seed=9), ct_slice(8, study_uid=uid)
    conflict.SOPInstanceUID = sop
    nameless.PatientID, nameless.PatientName = "", "Nobody^Knows"
    under_its_study = ct_slice(3, study_uid=uid, **other)
    under_its_instance = ct_slice(4, rng_seed=5, **other)
    under_its_instance.SOPInstanceUID = sop
    for ds in study:
        box.send(ds, at=EARLIER)
    kept = [box.send(ds, at=EARLIER) for ds in (conflict, nameless)]
    mine = ids(box)
    kept += [box.send(ds, at=EARLIER) for ds in (under_its_study, under_its_instance)]
    assert [one.is_held for one in kept] == [False, True, True, False]
    assert [one.is_conflict for one in kept] == [True, False, False, True]
    return Mixed(study, mine, tuple(sorted({*ids(box)} - {*mine})))


def ids(box: Box) -> tuple[str, ...]:
    return tuple(sorted(one.id for one in quarantine.entries(box.layout)))


def files_of(box: Box, ids: tuple[str, ...]) -> list[bytes]:
    paths = [quarantine.file_of(box.layout, id).with_suffix(end) for id in ids for end in ENDS]
    return [path.read_bytes() for path in paths]


ENDS = (".dcm", ".json")


def run(box: Box, *words: str) -> str:
    box.db.close()
    done = subprocess.run(
        [sys.executable, "-m", "appliance.cli", "--home", str(box.settings.home), *words],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["patient", "study"])
def test_forget_leaves_what_others_sent_under_its_uids(box: Box, kind: str) -> None:
    mixed = sent(box)
    subject = PATIENT if kind == "patient" else mixed.subject_study
    before = files_of(box, mixed.others)
    view = box.erasing.preview(subject, datetime.now(UTC))
    assert (view.quarantine, view.staying) == (mixed.mine, mixed.others)
    done = box.erasing.erase(subject, "me", datetime.now(UTC))
    assert done is not None and (done.quarantine, done.staying) == (2, mixed.others)
    assert ids(box) == mixed.others and files_of(box, mixed.others) == before
    for raw in before:
        assert b"P-SEEDED-1" not in raw and b"Seeded^Name" not in raw
    assert bytes_below(box.layout.studies) == {}


@SQLITE
@pytest.mark.parametrize("step", ["marked", "bytes", "end"])
@pytest.mark.parametrize("kind", ["patient", "study"])
def test_forget_that_is_killed_leaves_the_same(box: Box, step: str, kind: str) -> None:
    mixed = sent(box)
    killed_at(box, step, PATIENT if kind == "patient" else mixed.subject_study)
    [done] = box.erasing.finish_all(datetime.now(UTC))
    assert done.staying == ids(box) == mixed.others


@SQLITE
def test_forget_leaves_what_a_dead_process_had_of_others(box: Box) -> None:
    mixed = sent(box)
    killed_at(box, "files")  # marked
    left = box.layout.incoming / "p-dead"
    left.mkdir()
    uid = mixed.study[0].StudyInstanceUID
    write(mixed.study[1], left / "a9.b1")
    write(ct_slice(5, study_uid=uid, patient_id="P-OTHER", patient_name="O"), left / "a9.b2")
    other = ct_slice(6, patient_id="P-OTHER", patient_name="O")
    other.SOPInstanceUID = mixed.study[1].SOPInstanceUID
    write(other, left / "a9.b3")
    assert adopt(box.db, box.layout, Streams(), datetime.now(UTC)) == 0
    assert sorted(path.name for path in left.iterdir()) == ["a9.b2", "a9.b3"]
    box.erasing.finish_all(datetime.now(UTC))
    assert adopt(box.db, box.layout, Streams(), datetime.now(UTC)) == 2
    assert all(b"P-OTHER" in path.read_bytes() for path in stored(box.layout))


@SQLITE
def test_forget_says_what_stays_in_quarantine_and_how_to_remove_it(box: Box) -> None:
    mixed = sent(box)
    said = run(box, "forget", "--patient", PATIENT.value, "--preview")
    goes, _, stays = said.partition("Quarantine keeps 2 files with UIDs of it")
    assert "2 files of it in quarantine:" in goes and "brookbox quarantine remove ID" in stays
    assert all(id in goes for id in mixed.mine) and all(id in stays for id in mixed.others)
    assert "from CT1, held. Its Study Instance UID is that of a study of another patient" in stays
    done = run(box, "forget", "--patient", PATIENT.value, "--yes")
    stays = done.partition("Erased: ")[2]
    assert all(id in stays for id in mixed.others)
    run(box, "quarantine", "remove", *mixed.others, "--yes")
    assert ids(box) == ()


@SQLITE
def test_forget_says_what_there_is_when_only_quarantine_is_left(box: Box) -> None:
    mixed = sent(box)
    said = run(box, "forget", "--patient", "P-OTHER", "--preview")
    assert "Nothing of this patient is in the index.\n2 files of it in quarantine:" in said
    assert all(f"{id}: from CT1, " in said for id in mixed.others)
    assert "0 studies" not in said
    run(box, "forget", "--patient", "P-OTHER", "--yes")
    assert ids(box) == mixed.mine


@SQLITE
@pytest.mark.parametrize("kind", ["patient", "study"])
@pytest.mark.parametrize("index", ["has it", "never knew it"])
def test_forget_after_a_restore_leaves_the_same(
    box: Box, kind: str, index: str, tmp_path: Path
) -> None:
    mixed = sent(box)
    to, now = tmp_path / "to", datetime.now(UTC)
    saved = backups.make_backup(box.settings, to, now, with_files=True).folder
    before, copies = files_of(box, mixed.others), bytes_below(box.layout.quarantine)
    box.erase(PATIENT if kind == "patient" else mixed.subject_study)
    if index == "has it":
        answer = json.loads(run(box, "--json", "restore", str(saved), "--yes"))
    else:  # only quarantine is put back, by hand
        for path, raw in copies.items():
            Path(path).write_bytes(raw)
            os.utime(path, (EARLIER.timestamp(),) * 2)
        answer = json.loads(run(box, "--json", "index", "rebuild", "--yes"))
        assert "2 files of what had been erased" in answer["erased_again"][0]
    assert "2 files in quarantine have the Study UID" not in str(answer)
    assert "1 files in quarantine have the Study UID" in answer["erased_again"][-1]
    assert ids(box) == mixed.others and files_of(box, mixed.others) == before
    assert bytes_below(box.layout.studies) == {}


@SQLITE
def test_forget_of_a_study_of_which_nobody_knows_the_patient_takes_what_names_it(box: Box) -> None:
    """Nothing of it is kept but in quarantine: nobody is another patient then."""
    mixed = sent(box)
    with box.db.write() as connection:
        for table in (t.receptions, t.instances, t.series, t.studies):
            connection.execute(table.delete())
    done = box.erasing.erase(mixed.subject_study, "me", datetime.now(UTC))
    assert done is not None and done.quarantine == 3 and len(ids(box)) == 1
