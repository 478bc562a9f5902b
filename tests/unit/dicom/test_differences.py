"""Of two files that differ a person is told the elements, in short; hostile ones cost little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from appliance.dicom import differences as module
from appliance.dicom.differences import differences
from appliance.errors import CannotUnderstand
from tests.kit.dicom import ct_slice

Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    def save(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(file, enforce_file_format=True)
        return file

    return save


def told(first: Path, second: Path) -> dict[str, tuple[str, str]]:
    return {one.name: (one.first, one.second) for one in differences(first, second).elements}


def test_what_differs_is_named_with_both_values(saved: Saved) -> None:
    ds = ct_slice()
    before = saved(ds)
    ds.SeriesDescription = "Axial <b>2</b>"
    ds.Rows = 65
    ds.PixelData = bytes(len(ds.PixelData))
    ds.ReferencedStudySequence = Sequence([Dataset()])
    ds.add_new(0x00291010, "LO", "x" * 64)
    del ds.KVP
    found = told(before, saved(ds))
    assert list(found) == [
        "SeriesDescription", "ReferencedStudySequence", "KVP", "Rows", "(0029,1010)", "PixelData",
    ]  # fmt: skip
    assert found["SeriesDescription"] == ("Axial", "Axial <b>2</b>")
    assert found["Rows"] == ("64", "65") and found["KVP"] == ("120", "")
    assert found["ReferencedStudySequence"][1].startswith("1 item, digest ")
    assert found["(0029,1010)"] == ("", "x" * 60 + "…")
    kept, came = found["PixelData"]
    assert kept != came and kept.startswith("8.2 kB, digest ")


def test_how_it_is_written_is_no_difference(saved: Saved) -> None:
    ds = ct_slice()
    first = saved(ds)
    assert differences(first, saved(ds, ImplicitVRLittleEndian)).elements == ()
    ds.Rows = 3
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian):
        changed = saved(ds, syntax)
        assert told(first, changed)["Rows"] == ("64", "3"), syntax


def test_of_what_was_made_to_cost_time_only_the_beginning_is_compared(
    saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = ct_slice()
    ds.OtherPatientIDsSequence = Sequence([Dataset() for _ in range(module.MOST_STEPS)])
    first = saved(ds)
    ds.PatientID, ds.PatientName, ds.Rows = "P-2", "Roe", 3
    found = differences(first, saved(ds))
    assert [one.name for one in found.elements] == ["PatientName", "PatientID"]
    assert not found.is_whole
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    ds = ct_slice()
    first = saved(ds)
    ds.PixelData = bytes(len(ds.PixelData) + 2)
    found = differences(first, saved(ds))
    assert [one.name for one in found.elements] == ["PixelData"] and not found.is_whole


def test_a_file_that_cannot_be_read_is_an_error_of_ours(saved: Saved, tmp_path: Path) -> None:
    first = saved(ct_slice())
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(CannotUnderstand):
        differences(first, cut)
