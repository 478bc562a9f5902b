"""UIDs that are put into a data set: each in its place, nothing else touched."""

from __future__ import annotations

import copy
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from appliance.dicom.given_uids import SERIES_UID, SOP_INSTANCE_UID, STUDY_UID, filled, lacking
from appliance.dicom.header import read_header
from appliance.errors import CannotUnderstand
from tests.kit.dicom import ct_slice
from tests.unit.dicom.test_header import encoded

KEYWORDS = {
    SOP_INSTANCE_UID: "SOPInstanceUID",
    STUDY_UID: "StudyInstanceUID",
    SERIES_UID: "SeriesInstanceUID",
}


def read(data: bytes, syntax: str) -> Dataset:
    return pydicom.filereader.read_dataset(
        BytesIO(data), syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    )


@pytest.mark.parametrize("how", ["absent", "empty"])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_every_uid_gets_its_place_in_every_encoding(syntax: str, how: str) -> None:
    whole = ct_slice()
    cut = copy.deepcopy(whole)
    for keyword in KEYWORDS.values():
        if how == "absent":
            delattr(cut, keyword)
        else:
            setattr(cut, keyword, "")
    data = encoded(cut, syntax)
    with memoryview(data) as view:
        tags = lacking(view, syntax)
        assert tags == tuple(KEYWORDS)
        made = filled(view, syntax, {tag: getattr(whole, KEYWORDS[tag]) for tag in tags})
    assert made == encoded(whole, syntax)
    assert read(made, syntax).PixelData == whole.PixelData
    assert read_header(made, syntax).series_uid == whole.SeriesInstanceUID


def test_only_what_is_missing_is_named() -> None:
    ds = ct_slice()
    del ds.SeriesInstanceUID
    assert lacking(memoryview(encoded(ds)), ExplicitVRLittleEndian) == (SERIES_UID,)
    assert lacking(memoryview(encoded(ct_slice())), ExplicitVRLittleEndian) == ()


def test_implicit_bytes_in_an_explicit_context_stay_implicit() -> None:
    ds = ct_slice()
    series_uid = ds.SeriesInstanceUID
    whole = encoded(ds, ImplicitVRLittleEndian)
    del ds.SeriesInstanceUID
    with memoryview(encoded(ds, ImplicitVRLittleEndian)) as view:
        assert filled(view, ExplicitVRLittleEndian, {SERIES_UID: series_uid}) == whole


def test_a_group_length_that_would_lie_goes() -> None:
    ds = ct_slice()
    del ds.SeriesInstanceUID
    ds.add_new(0x00200000, "UL", 20)
    with memoryview(encoded(ds)) as view:
        made = read(filled(view, ExplicitVRLittleEndian, {SERIES_UID: "1.2.3"}), LITTLE)
    assert 0x00200000 not in made
    assert made.SeriesInstanceUID == "1.2.3"
    assert made.StudyInstanceUID == ds.StudyInstanceUID


LITTLE = str(ExplicitVRLittleEndian)


def test_a_uid_that_ends_the_data_set_is_put_there() -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = "1.2", "1.3", "1.4"
    with memoryview(encoded(ds)) as view:
        assert read(filled(view, LITTLE, {SERIES_UID: "1.5"}), LITTLE).SeriesInstanceUID == "1.5"


def test_what_is_deflated_or_cannot_be_walked_is_left_alone() -> None:
    ds = ct_slice()
    del ds.SeriesInstanceUID
    deflated = encoded(ds, DeflatedExplicitVRLittleEndian)
    assert lacking(memoryview(deflated), DeflatedExplicitVRLittleEndian) == ()
    with pytest.raises(CannotUnderstand):
        lacking(memoryview(encoded(ds)[:-10]), LITTLE)
