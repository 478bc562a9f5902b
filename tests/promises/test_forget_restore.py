"""What was erased does not come back with a backup that was made before, nor with a rebuild."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.dicom import part10
from appliance.erasure.act import erasures_of
from appliance.errors import ErasureError
from appliance.health import backups
from appliance.index import schema as t
from appliance.index.extent import Subject
from appliance.settings import Settings
from tests.kit.dicom import ct_study
from tests.promises.erasing import CHECKOUT, PATIENT, Box, bytes_below, empty_box
from tests.unit.intake.given import LITTLE, bytes_of

EARLIER = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A node's folder, on which nothing runs."""
    settings = Settings(home=tmp_path / "node")
    with empty_box(settings, tmp_path / "scratch") as made:
        yield made


def cli(box: Box, *words: str) -> Any:
    box.db.close()
    done = subprocess.run(
        [sys.executable, "-m", "appliance.cli", "--home", str(box.settings.home), "--json", *words],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_forget_is_done_again_after_the_restore_of_an_older_backup(
    box: Box, tmp_path: Path
) -> None:
    study, other = ct_study(2), ct_study(1, patient_id="P-OTHER", patient_name="Other^One")
    for ds in (*study, *other):
        box.send(ds, at=EARLIER)
    box.job(study[0].StudyInstanceUID, "queued")  # as it was when the backup was made
    saved = backups.make_backup(box.settings, tmp_path / "to", datetime.now(UTC), with_files=True)
    with box.db.write() as connection:
        connection.execute(t.jobs.update().values(state="failed", ended_at=datetime.now(UTC)))
    box.erase()
    for path in (*box.layout.studies.glob("*"),):
        shutil.rmtree(path)
    answer = cli(box, "restore", str(saved.folder), "--yes")
    assert len(answer["erased_again"]) == 1 and "erased again" in answer["erased_again"][0]
    assert box.found(study) == []
    assert [Path(path).stem for path in bytes_below(box.layout.studies)] == [
        other[0].SOPInstanceUID
    ]
    assert erasures_of(box.db, box.layout, "patient", PATIENT.value)


def test_forget_leaves_what_had_come_anew_when_an_older_backup_is_restored(
    box: Box, tmp_path: Path
) -> None:
    study = ct_study(2)
    for ds in study:
        box.send(ds, at=EARLIER)
    saved = backups.make_backup(box.settings, tmp_path / "to", datetime.now(UTC))
    box.erase()
    for ds in study:
        box.send(ds)
    answer = cli(box, "restore", str(saved.folder), "--yes")
    assert answer["erased_again"] == []
    assert box.count(t.instances) == len(bytes_below(box.layout.studies)) == 2


def test_forget_is_known_to_an_index_that_is_made_again(box: Box) -> None:
    study, other = ct_study(2), ct_study(1, patient_id="P-OTHER", patient_name="Other^One")
    for ds in (*study, *other):
        box.send(ds)
    copies = bytes_below(box.layout.studies)
    box.erase()
    for path, raw in copies.items():  # by hand, from somewhere
        if not Path(path).exists():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(raw)
            os.utime(path, (EARLIER.timestamp(),) * 2)
    answer = cli(box, "index", "rebuild", "--yes")
    assert len(answer["erased_again"]) == 1
    assert box.found(study) == []
    assert box.count(t.instances) == 1
    assert erasures_of(box.db, box.layout, "study", study[0].StudyInstanceUID)


def test_forget_has_a_key_that_no_backup_holds(box: Box, tmp_path: Path) -> None:
    [ds] = ct_study(1)
    box.send(ds)
    box.erase()
    saved = backups.make_backup(box.settings, tmp_path / "to", datetime.now(UTC), with_files=True)
    assert [one.path for one in saved.left_out] == ["erasure.key"]
    key = box.layout.erasure_key.read_text()
    assert not [path for path, raw in bytes_below(saved.folder).items() if key.encode() in raw]
    box.layout.erasure_key.unlink()
    with pytest.raises(ErasureError, match=r"erasure\.key is not here"):
        erasures_of(box.db, box.layout, "patient", PATIENT.value)
    other = Subject("study", ds.StudyInstanceUID)
    assert box.send(ds).is_new  # taken all the same
    box.erase(other)
    assert len(erasures_of(box.db, box.layout, "study", other.value)) == 1  # under a new key


def test_forget_reaches_a_result_that_a_rebuild_puts_into_quarantine(
    box: Box, tmp_path: Path
) -> None:
    study, other = ct_study(2), ct_study(1, patient_id="P-OTHER", patient_name="Other^One")
    for ds in (*study, *other):
        box.send(ds)
    box.erase()
    add_stream(box, "ECHO")  # a job of the other study is to come
    by_hand = box.layout.studies / "ab" / "result.dcm"  # from somewhere
    by_hand.parent.mkdir(parents=True)
    meta = part10.FileMeta(study[0].SOPClassUID, study[0].SOPInstanceUID, LITTLE, "BROOKBOX")
    by_hand.write_bytes(part10.encode(meta) + bytes_of(study[0], tmp_path))
    os.utime(by_hand, (EARLIER.timestamp(),) * 2)
    answer = cli(box, "index", "rebuild", "--yes")
    assert len(answer["rebuilt"]["leftovers"]) == 1
    assert "came back to quarantine and went" in answer["erased_again"][0]
    assert bytes_below(box.layout.quarantine) == {}
    assert box.found(study) == []


def add_stream(box: Box, ae_title: str) -> None:
    folder = box.settings.streams_folder / ae_title.lower()
    folder.mkdir(parents=True)
    (folder / "info.json").write_text(json.dumps({"AETitle": ae_title}))
