"""What is sent again and is in quarantine already is counted there; nothing of it is lost."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.disk.resent import Resent
from appliance.disk.studies import dataset_digest
from appliance.errors import CannotUnderstand, Conflicts
from appliance.intake.arrived import Kept
from appliance.settings import Receiver
from tests.kit.dicom import ct_slice
from tests.kit.quarantined import put_aside
from tests.unit.intake.given import CT1, NOW, bytes_of, waiting

NIGHT = timedelta(days=1)


@pytest.fixture
def other() -> Dataset:
    ds = ct_slice()
    ds.PatientComments = "other"
    return ds


@pytest.fixture
def conflict(send: Callable[..., Kept], layout: Layout, other: Dataset) -> Entry:
    """An instance is kept, and `other` under its UID is in quarantine."""
    first = deepcopy(other)
    del first.PatientComments
    send(first)
    assert "first stays" in send(other).note
    (entry,) = quarantine.entries(layout)
    assert (entry.times, entry.last_at) == (1, None)
    return entry


def times(layout: Layout) -> list[int]:
    return [entry.times for entry in quarantine.entries(layout)]


def strays(layout: Layout) -> list[Path]:
    return [p for p in layout.quarantine.glob("*.json") if not p.with_suffix(".dcm").exists()]


def test_each_night_the_same_conflict_is_one_entry(
    send: Callable[..., Kept], layout: Layout, conflict: Entry, other: Dataset
) -> None:
    for night in (1, 2):
        later = replace(CT1, association_id=f"night-{night}")
        assert "first stays" in send(other, later, now=NOW + night * NIGHT).note
    (entry,) = quarantine.entries(layout)
    assert entry == replace(conflict, times=3, last_at=NOW + 2 * NIGHT)
    assert len(list(layout.quarantine.iterdir())) == 2
    assert waiting(layout) == []


def test_other_bytes_of_the_same_content_are_counted(
    send: Callable[..., Kept], layout: Layout, conflict: Entry, other: Dataset, tmp_path: Path
) -> None:
    data = bytes_of(other, tmp_path) + b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0\0\0\0\0"
    send(other, data=data)
    assert times(layout) == [2]
    assert dataset_digest(quarantine.file_of(layout, conflict.id)) == conflict.dataset_sha256


@pytest.mark.usefixtures("conflict")
def test_another_content_sender_or_stream_has_an_entry_of_its_own(
    send: Callable[..., Kept], layout: Layout, other: Dataset
) -> None:
    send(other, replace(CT1, calling_ae_title="CT2"))
    send(other, replace(CT1, called_ae_title="QUICK"))
    other.PatientComments = "a third"
    send(other)
    send(other)
    assert times(layout) == [2, 1, 1, 1]


@pytest.mark.parametrize("how", ["cut", "changed", "away", "no words"])
def test_only_a_whole_file_is_counted_on(
    send: Callable[..., Kept], layout: Layout, conflict: Entry, other: Dataset, how: str
) -> None:
    file = quarantine.file_of(layout, conflict.id)
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-2])
    if how == "changed":
        file.write_bytes(file.read_bytes()[:-2] + b"xx")
    if how == "away":
        file.unlink()
    if how == "no words":
        file.with_suffix(".json").write_text("{")
    send(other)
    newest = quarantine.entries(layout)[0]
    assert newest.id != conflict.id and newest.times == 1
    assert dataset_digest(quarantine.file_of(layout, newest.id)) == conflict.dataset_sha256


def test_while_a_person_has_it_tried_what_comes_is_kept_beside_it(
    send: Callable[..., Kept], layout: Layout, conflict: Entry, other: Dataset
) -> None:
    with quarantine.claimed(layout, conflict.id):
        send(other)
    assert times(layout) == [1, 1]
    send(other)
    assert times(layout) == [2, 1]


@pytest.mark.parametrize("when", ["removed", "half removed"])
def test_what_is_removed_this_very_moment_is_not_counted_on(
    layout: Layout, tmp_path: Path, when: str
) -> None:
    (source := tmp_path / "came").write_bytes(b"came")
    first = put_aside(layout, Kind.CONFLICT, NOW, source)
    entry = quarantine.read(layout, first)

    def is_same(file: Path) -> bool:
        file.unlink()
        if when == "removed":
            file.with_suffix(".json").unlink()
        return True

    second = Resent(layout).keep(source, entry, is_same)
    assert second != first
    assert [one.id for one in quarantine.entries(layout)] == [second]
    assert quarantine.file_of(layout, second).read_bytes() == b"came"
    assert strays(layout) == []


def test_what_came_again_is_not_outdated(layout: Layout) -> None:
    id = put_aside(layout, Kind.CONFLICT, NOW)
    entry = quarantine.read(layout, id)
    again = replace(entry, received_at=NOW + NIGHT)
    assert Resent(layout).keep(layout.incoming, again, lambda file: True) == id
    assert not quarantine.remove_outdated(layout, id, NOW + NIGHT)
    assert quarantine.remove_outdated(layout, id, NOW + 2 * NIGHT)
    assert list(layout.quarantine.iterdir()) == []


@pytest.mark.parametrize("status", [0x0000, 0x0124])
def test_what_is_held_is_one_entry_and_the_answer_stays(
    intake_of: Callable[..., Callable[..., Kept]], layout: Layout, status: int
) -> None:
    send = intake_of(Receiver(on_conflict="refuse" if status else "keep-first"))
    mine = ct_slice()
    send(mine)
    theirs = ct_slice(study_uid=mine.StudyInstanceUID, patient_id="P-2")
    for _ in range(3):
        if status:
            with pytest.raises(Conflicts):
                send(theirs)
        else:
            assert send(theirs).is_held
    (entry,) = quarantine.entries(layout)
    assert (entry.kind, entry.times, entry.status) == (Kind.HELD, 3, status)


def test_what_is_refused_is_one_entry_as_long_as_its_bytes_are_the_same(
    send: Callable[..., Kept], layout: Layout, tmp_path: Path
) -> None:
    ds = ct_slice()
    data = bytes_of(ds, tmp_path)
    for cut in (10, 10, 20):
        with pytest.raises(CannotUnderstand):
            send(ds, data=data[:-cut])
    assert times(layout) == [1, 2]
    assert waiting(layout) == []
