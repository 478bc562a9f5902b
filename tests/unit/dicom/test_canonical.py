"""One content in other bytes is one content; another content is another."""

from __future__ import annotations

import copy
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from appliance.dicom import part10
from appliance.dicom.canonical import content_digest
from appliance.dicom.header import opened
from tests.kit import require
from tests.kit.dicom import ct_slice

UNCOMPRESSED = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def nested() -> Dataset:
    """Make an image with items in items, floats, words and private elements."""
    ds = ct_slice()
    inner = Dataset()
    inner.CodeValue, inner.CodingSchemeDesignator = "121", "DCM"
    outer = Dataset()
    outer.ConceptNameCodeSequence = Sequence([inner])
    outer.FloatingPointValue = [1.5, -2.25]
    ds.ContentSequence = Sequence([outer, Dataset()])
    ds.ReferencedImageSequence = Sequence([])
    ds.add_new(0x00091001, "LO", "private")
    ds.add_new(0x00090010, "LO", "MAKER")
    return ds


def digest(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> str:
    """Give the digest of a data set as pydicom writes it."""
    buffer = io.BytesIO()
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    ds.file_meta = meta
    pydicom.dcmwrite(buffer, ds, enforce_file_format=False, implicit_vr=None, little_endian=None)
    raw = buffer.getvalue()
    with opened(raw) as view:
        return content_digest(view[part10.read_meta(view)[1] :], syntax)


def without_pixels(ds: Dataset) -> Dataset:
    del ds.PixelData
    return ds


def test_implicit_explicit_and_deflated_are_one_content() -> None:
    ds = nested()
    syntaxes = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
    assert len({digest(ds, syntax) for syntax in syntaxes}) == 1


def test_big_endian_is_the_same_content() -> None:
    ds = without_pixels(nested())
    assert len({digest(ds, syntax) for syntax in UNCOMPRESSED}) == 1


def test_stated_and_open_lengths_are_one_content() -> None:
    stated = nested()
    opened_ones = copy.deepcopy(stated)
    for item in opened_ones.ContentSequence:
        item.is_undefined_length_sequence_item = True
    opened_ones["ContentSequence"].is_undefined_length = True
    assert digest(stated) == digest(opened_ones)


def test_group_lengths_and_padding_say_nothing() -> None:
    ds = nested()
    before = digest(ds)
    ds.add_new(0x00080000, "UL", 4711)
    ds.add_new(0xFFFCFFFC, "OB", b"\0" * 64)
    assert digest(ds) == before


def set_pixel(ds: Dataset) -> None:
    ds.PixelData = b"\1" + ds.PixelData[1:]


def set_name(ds: Dataset) -> None:
    ds.PatientName = "Other^Name"


def set_deep(ds: Dataset) -> None:
    ds.ContentSequence[0].ConceptNameCodeSequence[0].CodeValue = "122"


def set_private(ds: Dataset) -> None:
    ds[0x00091001].value = "privates"


def move_up(ds: Dataset) -> None:
    ds.ContentSequence[1].FloatingPointValue = ds.ContentSequence[0].FloatingPointValue
    del ds.ContentSequence[0].FloatingPointValue


def drop_item(ds: Dataset) -> None:
    del ds.ContentSequence[1]


@pytest.mark.parametrize(
    "change", [set_pixel, set_name, set_deep, set_private, move_up, drop_item]
)
def test_another_value_is_another_content(change: Callable[[Dataset], None]) -> None:
    ds = nested()
    before = digest(ds)
    change(ds)
    assert digest(ds) != before


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "reportsi.dcm"])
def test_what_dcmtk_writes_anew_is_the_same_content(tmp_path: Path, name: str) -> None:
    require.program("dcmconv", "dcmtk")
    source = Path(str(get_testdata_file(name)))
    shutil.copyfile(source, tmp_path / "as it is.dcm")
    for number, words in enumerate(
        (("+te", "+e"), ("+te", "-e"), ("+ti", "-e"), ("+tb", "+e"), ("+te", "+g", "+e"))
    ):
        subprocess.run(
            ["dcmconv", *words, source, tmp_path / f"{number}.dcm"], check=True, capture_output=True
        )
    found = set()
    for path in tmp_path.iterdir():
        meta, start = part10.read_meta(path)
        with opened(path) as view:
            found.add(content_digest(view[start:], meta.transfer_syntax_uid))
    assert len(found) == 1
