"""What is marked: kept all the same, and found again in the file."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from appliance.dicom import marks
from appliance.dicom.header import read_header
from appliance.dicom.marks import BITS_ALLOCATED, COLUMNS, FRAMES, PHOTOMETRIC, ROWS, SAMPLES
from tests.kit.dicom import ct_slice
from tests.unit.dicom.test_header import encoded, uids

LITTLE = str(ExplicitVRLittleEndian)
NATIVE = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def with_id(ds: Dataset) -> Dataset:
    ds.PatientID = "1"
    return ds


@pytest.mark.parametrize("syntax", NATIVE)
def test_an_instance_as_it_should_be_has_no_mark(syntax: str) -> None:
    assert read_header(encoded(ct_slice(), syntax), syntax).marks == ()


@pytest.mark.parametrize("syntax", NATIVE)
def test_short_pixel_data_are_marked_in_every_native_syntax(syntax: str) -> None:
    ds = ct_slice()
    ds.PixelData = ds.PixelData[:-2]
    assert read_header(encoded(ds, syntax), syntax).marks == (marks.SHORT_PIXELS,)
    ds.NumberOfFrames = 2
    ds.PixelData = ds.PixelData + bytes(2)
    assert read_header(encoded(ds, syntax), syntax).marks == (marks.SHORT_PIXELS,)


def test_compressed_pixel_data_have_no_length_to_compare() -> None:
    ds = ct_slice()
    ds.PixelData = ds.PixelData[:100]
    assert read_header(encoded(ds), JPEGBaseline8Bit).marks == ()


@pytest.mark.filterwarnings("ignore:.*VR UI:UserWarning")
def test_an_empty_patient_id_and_leading_zeros_are_marked() -> None:
    ds = ct_slice(patient_id="", study_uid="1.02.3")
    assert read_header(encoded(ds), LITTLE).marks == (marks.NO_PATIENT_ID, marks.LEADING_ZEROS)
    del ds.PatientID
    ds.StudyInstanceUID = "1.0.2"
    assert read_header(encoded(ds), LITTLE).marks == (marks.NO_PATIENT_ID,)


def test_odd_lengths_are_marked_wherever_they_stand() -> None:
    good = encoded(with_id(uids()))
    assert read_header(good, LITTLE).marks == ()
    odd = good + element(0x0040, 0x0254, b"LO", b"odd")
    assert read_header(odd, LITTLE).marks == (marks.ODD_LENGTHS,)
    item = element(0x0008, 0x1150, b"UI", b"1.2")
    sequence = struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item
    nested = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, len(sequence)) + sequence
    assert read_header(good + nested, LITTLE).marks == (marks.ODD_LENGTHS,)


def test_another_encoding_than_agreed_and_an_unknown_vr_are_marked() -> None:
    ds = with_id(uids())
    implicit = encoded(ds, ImplicitVRLittleEndian)
    assert read_header(implicit, LITTLE).marks == (marks.OTHER_ENCODING,)
    assert read_header(encoded(ds), ImplicitVRLittleEndian).marks == (marks.OTHER_ENCODING,)
    unknown = encoded(ds) + element(0x0040, 0x0254, b"??", b"what")
    assert read_header(unknown, LITTLE).marks == (marks.UNKNOWN_VR,)


def test_text_that_is_not_of_its_character_set_is_marked() -> None:
    data = element(0x0008, 0x0005, b"CS", b"ISO_IR 192") + encoded(with_id(uids()))
    assert read_header(data, LITTLE).marks == ()
    data += element(0x0010, 0x1000, b"LO", b"B\xe4") + element(0x0018, 0x0015, b"CS", b"B\xe4")
    assert read_header(data, LITTLE).marks == (marks.UNREADABLE_TEXT,)


@pytest.mark.parametrize(
    ("bits", "samples", "photometric", "frames", "expected"),
    [
        (16, 1, b"MONOCHROME2", b"", 10 * 7 * 2),
        (1, 1, b"MONOCHROME2", b"3 ", 27),  # 210 bits
        (8, 3, b"YBR_FULL_422", b"", 10 * 7 * 2),
        (8, 3, b"RGB ", b"2", 10 * 7 * 3 * 2),
        (8, 3, b"RGB ", b"-2", 10 * 7 * 3),
        (8, 1, b"", b"many", 10 * 7),
        (8, 1, b"", b"9" * 1000, 10 * 7),
    ],
)
def test_how_many_bytes_an_image_takes(
    bits: int, samples: int, photometric: bytes, frames: bytes, expected: int
) -> None:
    values = {
        ROWS: struct.pack("<H", 10), COLUMNS: struct.pack("<L", 7),  # UL: some old writers
        BITS_ALLOCATED: struct.pack("<H", bits), SAMPLES: struct.pack("<H", samples),
        PHOTOMETRIC: photometric, FRAMES: frames,
    }  # fmt: skip
    assert marks.pixel_bytes(values, "little") == expected


@given(st.dictionaries(st.sampled_from(sorted(marks.PIXEL_TAGS)), st.binary(max_size=20)))
def test_no_values_crash_it(values: dict[int, bytes]) -> None:
    for byte_order in ("little", "big"):
        assert marks.pixel_bytes(values, byte_order) >= 0  # type: ignore[arg-type]


def test_every_mark_has_words_for_a_person() -> None:
    found = {value for value in vars(marks).values() if isinstance(value, str)}
    assert set(marks.WORDS) <= found
    assert all(words and words[0].islower() for words in marks.WORDS.values())
    assert marks.in_words("no-patient-id,coerced") == [
        "the Patient ID is empty",
        "it lacked a UID, and the node made one",
    ]
    assert marks.in_words("") == []
