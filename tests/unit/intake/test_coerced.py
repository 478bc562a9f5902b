"""UIDs that the node makes: for what a modality left out, where the settings allow it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from appliance.dicom import part10
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.studies import dataset_digest
from appliance.errors import DoesNotMatch, InstanceRefused
from appliance.index import catalog, schema
from appliance.index.database import Database
from appliance.intake.arrived import Kept, Sender
from appliance.intake.coerced import coerced
from appliance.settings import Receiver
from tests.kit.dicom import ct_slice
from tests.unit.dicom.test_header import encoded
from tests.unit.intake.given import CT1, LITTLE, bytes_of, count, instance, stored, waiting


def made(ds: Dataset, folder: Path, sender: Sender = CT1) -> Dataset:
    meta = part10.FileMeta(ds.SOPClassUID, "1.2.3.99", LITTLE)
    data = coerced(memoryview(bytes_of(ds, folder)), meta, sender)
    assert data is not None
    return pydicom.filereader.read_dataset(BytesIO(data), False, True)


def bare(**facts: str) -> Dataset:
    """Make a slice without a Study and a Series UID."""
    ds = ct_slice()
    for name, value in facts.items():
        setattr(ds, name, value)
    del ds.StudyInstanceUID, ds.SeriesInstanceUID
    return ds


def test_images_of_one_study_find_together(tmp_path: Path) -> None:
    one, other = made(bare(), tmp_path), made(bare(InstanceNumber="2"), tmp_path)
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert one.SeriesInstanceUID == other.SeriesInstanceUID
    third = made(bare(SeriesNumber="3"), tmp_path)
    assert third.StudyInstanceUID == one.StudyInstanceUID
    assert third.SeriesInstanceUID != one.SeriesInstanceUID


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "another"},
        {"StudyDate": "20260103"},
        {"AccessionNumber": "A124"},
        {"PatientName": "Another^One"},
        {"StudyTime": "235959"},
    ],
)
def test_two_patients_or_studies_never_share_one(tmp_path: Path, other: dict[str, str]) -> None:
    assert made(bare(), tmp_path).StudyInstanceUID != made(bare(**other), tmp_path).StudyInstanceUID


def test_without_an_id_the_name_tells_patients_apart(tmp_path: Path) -> None:
    nameless = [
        made(bare(PatientID="", PatientName=name), tmp_path).StudyInstanceUID
        for name in ("A^B", "C^D")
    ]
    assert len(set(nameless)) == 2


UNKNOWN = {"PatientID": "", "PatientName": ""}
NO_STUDY = {"StudyTime": "", "AccessionNumber": ""}
LATER = Sender("QUICK", "CT1", "10.0.0.9", "a2")


@pytest.mark.parametrize("what", [{}, {"AccessionNumber": ""}, NO_STUDY, UNKNOWN])
def test_another_association_makes_the_same_study_when_the_images_tell_which(
    tmp_path: Path, what: dict[str, str]
) -> None:
    one, two = made(bare(**what), tmp_path), made(bare(**what), tmp_path, LATER)
    is_told = what not in (NO_STUDY, UNKNOWN)
    assert (one.StudyInstanceUID == two.StudyInstanceUID) is is_told
    assert (one.SeriesInstanceUID == two.SeriesInstanceUID) is is_told
    other = made(bare(**what), tmp_path, Sender("ECHO", "CT2", "10.0.0.9", "a3"))
    assert other.StudyInstanceUID != one.StudyInstanceUID


@pytest.mark.parametrize("what", [{}, NO_STUDY, UNKNOWN, {**UNKNOWN, **NO_STUDY}])
@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_a_resend_of_the_same_bytes_is_the_same_instance(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]],
    what: dict[str, str], keyword: str,
) -> None:  # fmt: skip
    ds = bare(**what)
    if keyword == "SOPInstanceUID":
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.4", "1.2.3.5"
    if keyword == "SeriesInstanceUID":
        ds.StudyInstanceUID = "1.2.3.4"
    uid = ds.SOPInstanceUID
    if keyword == "SOPInstanceUID":
        del ds.SOPInstanceUID
    words = {"sop_instance_uid": uid, "data": encoded(ds)}
    send = intake_of(Receiver(coerce=True))
    first, second = send(ds, **words), send(ds, LATER, **words)
    assert (first.is_new, second.is_new) == (True, False)
    assert second.note == "It was kept already."
    assert first.study_uid == second.study_uid
    assert quarantine.entries(layout) == []
    assert (count(db, schema.studies), count(db, schema.series)) == (1, 1)
    assert (len(stored(layout)), waiting(layout)) == (1, [])


def test_what_is_coerced_never_takes_the_study_of_one_that_was_not(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]]
) -> None:
    send = intake_of(Receiver(coerce=True))
    whole = ct_slice(patient_id="", patient_name="")
    send(whole)
    ds = bare(SOPInstanceUID=whole.SOPInstanceUID, **UNKNOWN)
    send(ds, LATER, data=encoded(ds))
    (entry,) = quarantine.entries(layout)
    assert entry.kind is quarantine.Kind.CONFLICT
    with db.read() as connection:
        assert len(catalog.instances_of_study(connection, whole.StudyInstanceUID)) == 1


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_bi_07_a_missing_uid_is_refused_unless_the_node_is_to_make_it(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]], keyword: str
) -> None:
    ds = ct_slice()
    uid = ds.SOPInstanceUID
    delattr(ds, keyword)
    words = {"sop_instance_uid": uid, "data": encoded(ds)}
    with pytest.raises(DoesNotMatch, match="absent or empty"):
        intake_of(Receiver())(ds, **words)
    assert [one.status for one in quarantine.entries(layout)] == [0xA900]
    kept = intake_of(Receiver(coerce=True))(ds, **words)
    assert kept.marks == ("coerced",)
    assert kept.arrival_id is not None
    (path,) = stored(layout)
    whole = pydicom.dcmread(path)
    assert whole.SOPInstanceUID == uid
    assert whole.PixelData == ds.PixelData
    row = instance(db, whole)
    assert dataset_digest(path) == row.dataset_sha256
    assert row.marks == "coerced"
    with db.read() as connection:
        assert catalog.find_study(connection, whole.StudyInstanceUID) is not None
    assert len(quarantine.entries(layout)) == 1
    assert waiting(layout) == []


@pytest.mark.parametrize("how", ["deflated", "cut", "no SOP class"])
def test_what_cannot_be_mended_is_refused_as_it_came(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]], tmp_path: Path,
    how: str,
) -> None:  # fmt: skip
    ds = bare()
    data = bytes_of(ds, tmp_path)
    words = {}
    if how == "cut":
        data = data[:-10]
    if how == "no SOP class":
        words = {"sop_class_uid": ds.SOPClassUID}
        ds_class = ds.SOPClassUID
        head = b"\x08\0\x16\0UI" + len(ds_class + "\0").to_bytes(2, "little")
        assert head in data
        at = data.index(head)
        data = data[:at] + data[at + 8 + len(ds_class) + 1 :]
    if how == "deflated":
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflater.compress(data) + deflater.flush()
        words = {"transfer_syntax_uid": "1.2.840.10008.1.2.1.99"}
    with pytest.raises(InstanceRefused):
        intake_of(Receiver(coerce=True))(ds, data=data, **words)
    (entry,) = quarantine.entries(layout)
    raw = quarantine.file_of(layout, entry.id).read_bytes()
    assert raw.endswith(data)
    assert count(db, schema.instances) == 0
    assert (stored(layout), waiting(layout)) == ([], [])
