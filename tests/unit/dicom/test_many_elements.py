"""How many elements a data set may have: as many as real objects have, not more by far."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from pydicom.datadict import dictionary_VR, keyword_dict

from appliance.dicom import structure
from appliance.dicom.structure import encoding_of, look_through
from appliance.errors import CannotUnderstand
from tests.unit.dicom.test_header import LITTLE

IMPLICIT = "1.2.840.10008.1.2"
Wrap = Callable[[bytes], bytes]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousandth of everything, so that a test takes no time."""
    monkeypatch.setattr(structure, "MOST_ELEMENTS", 3000)
    monkeypatch.setattr(structure, "MANY_ELEMENTS", 1000)
    monkeypatch.setattr(structure, "_STEPS_BETWEEN_LOOKS", 10)


def walked(data: bytes, syntax: str) -> bool:
    try:
        look_through(memoryview(data), encoding_of(syntax), ())
    except CannotUnderstand as error:
        assert "elements and items" in str(error)
        return False
    return True


def implicit(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    length = struct.pack("<HL", 0, len(value)) if vr == b"SQ" else struct.pack("<H", len(value))
    return head + length + value


def item(value: bytes) -> bytes:
    return implicit(0xFFFEE000, value)


def open_item(value: bytes) -> bytes:
    end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + value + end


def open_sequence(tag: int, value: bytes) -> bytes:
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, 0xFFFFFFFF) + value + end


def frame(number: int, item: Wrap, sequence: Callable[[int, bytes], bytes]) -> bytes:
    """Encode the groups of one frame of a segmentation (PS3.3 C.8.20): 10 elements and items."""
    position = f"-125.5\\-130.25\\{number}.5".encode()
    return item(
        sequence(0x00209111, item(implicit(0x00209157, struct.pack("<3L", 1, number, 1))))
        + sequence(0x00209113, item(implicit(0x00200032, position + b" " * (len(position) % 2))))
        + sequence(0x0062000A, item(implicit(0x0062000B, b"\1\0")))
    )


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("made", "sequence"), [(item, implicit), (open_item, open_sequence)], ids=["stated", "open"]
)
def test_the_densest_multi_frame_object_passes_until_there_are_too_many(
    made: Wrap, sequence: Callable[[int, bytes], bytes]
) -> None:
    for frames, passes in ((250, True), (320, False)):
        groups = b"".join(frame(number, made, sequence) for number in range(frames))
        assert walked(sequence(0x52009230, groups), IMPLICIT) is passes


EMPTY = explicit(0x00211001, b"LO", b"")
HOSTILE = {
    "empty elements": (EMPTY * 1100, LITTLE),
    "empty elements, implicit": (implicit(0x00211001, b"") * 1100, IMPLICIT),
    "two bytes each": (explicit(0x00211001, b"LO", b"ab") * 1100, LITTLE),
    "empty items": (explicit(0x52009230, b"SQ", item(b"") * 1100), LITTLE),
    "items of one element": (explicit(0x52009230, b"SQ", item(EMPTY) * 600), LITTLE),
    "empty sequences": (explicit(0x00211001, b"SQ", b"") * 3100, LITTLE),
    "open items": (explicit(0x52009230, b"SQ", open_item(EMPTY) * 1600), LITTLE),
}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", HOSTILE)
def test_what_was_made_to_cost_time_is_refused(name: str) -> None:
    data, syntax = HOSTILE[name]
    assert not walked(data, syntax)


def test_many_elements_of_a_few_bytes_are_counted_as_they_are() -> None:
    with pytest.raises(CannotUnderstand, match="first 1,000,000 elements and items"):
        look_through(memoryview(EMPTY * 1_050_000), encoding_of(LITTLE), ())


def test_an_implicit_element_is_a_sequence_when_the_dictionary_says_so() -> None:
    for tag in keyword_dict.values():
        assert (structure._vr_of(tag) == b"SQ") is (dictionary_VR(tag) == "SQ")
    assert structure._vr_of(0x00211001) == structure._vr_of(0x60003000) == b"UN"
