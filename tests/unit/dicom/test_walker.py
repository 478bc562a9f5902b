"""The walker gives what `read_header` gives, or nothing: whatever it gets, cut anywhere."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.dataelem import RawDataElement

from appliance.dicom import part10
from appliance.dicom.header import WANTED, Header, read_header
from appliance.dicom.walker import header_of_start, read_start, read_whole
from appliance.errors import InstanceRefused
from tests.kit import generated, malformed, require
from tests.kit.dicom import ct_slice
from tests.kit.generated import IMPLICIT, LITTLE
from tests.unit.dicom.test_header import encoded, uids

FIRST_BUFFERS = (131_072, 65_536, 16_384, 8192, 4096, 1500)


def refused(reader: object, data: bytes, syntax: str) -> Header | tuple[type, str]:
    """Give the header, or what its refusal says."""
    try:
        return reader(memoryview(data), syntax)  # type: ignore[operator, no-any-return]
    except InstanceRefused as error:
        return type(error), str(error)


def walked(data: bytes, syntax: str, cut: int) -> Header | None:
    view = memoryview(data)
    start = read_start(view[:cut], syntax, is_whole=cut >= len(data))
    return start and header_of_start(start, len(data), syntax)


def cuts(data: bytes) -> Iterator[int]:
    dice = random.Random(len(data))
    yield len(data)
    yield from (size for size in FIRST_BUFFERS if size < len(data))
    yield from (dice.randrange(len(data) + 1) for _ in range(4))


def check(data: bytes, syntax: str, name: object) -> bool:
    """Compare with the reference at every cut; True when the walker could tell of the whole."""
    reference = refused(read_header, data, syntax)
    assert refused(read_whole, data, syntax) == reference, name
    for cut in cuts(data):
        found = walked(data, syntax, cut)
        assert found is None or found == reference, (name, cut)
    return walked(data, syntax, len(data)) is not None


def data_set_of(path: Path) -> tuple[bytes, str] | None:
    raw = path.read_bytes()
    try:
        meta, start = part10.read_meta(raw)
    except InstanceRefused:
        return None
    return raw[start:], meta.transfer_syntax_uid


@pytest.mark.parametrize("part", range(4))
def test_2000_generated_headers_are_read_as_the_reference_reads_them(part: int) -> None:
    decided = 0
    for one in generated.headers(2000):
        if one.seed % 4 == part:
            decided += check(one.data, one.transfer_syntax_uid, one)
    # A third is odd, and some are deflated or fragments: the rest has to be decided.
    assert decided > 250


def test_the_malformed_corpus_is_judged_as_the_reference_judges_it() -> None:
    for one in (*malformed.made(), *malformed.of_pydicom()):
        if "million" not in one.name:
            check(one.data, one.transfer_syntax_uid, one)


def test_every_file_of_pydicom_is_read_as_the_reference_reads_it() -> None:
    decided = 0
    for name in get_testdata_files():
        if Path(name).is_file() and (found := data_set_of(Path(name))) is not None:
            decided += check(*found, name)
    assert decided > 30


def test_every_real_file_is_read_as_the_reference_reads_it() -> None:
    for path in sorted(require.real_data().rglob("*.dcm")):
        if (found := data_set_of(path)) is not None:
            check(*found, path)


@pytest.mark.parametrize("folder", ["ct-abdomen", "ct-head", "mr-t1"])
def test_the_first_buffer_is_enough_for_real_images(folder: str) -> None:
    for path in sorted((require.real_data() / folder).rglob("*.dcm")):
        data, syntax = data_set_of(path) or (b"", "")
        assert walked(data, syntax, 131_072) is not None, path


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT, generated.BIG])
@pytest.mark.parametrize("size", [16, 512])
def test_the_first_buffer_is_enough_for_what_is_made_in_code(syntax: str, size: int) -> None:
    data = encoded(ct_slice(size=size), syntax)
    for cut in (3000, 131_072, len(data)):
        found = walked(data, syntax, cut) if cut <= len(data) else None
        assert found is not None or cut > len(data)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_walk_finds_the_values_that_pydicom_finds() -> None:
    compared = 0
    names = [Path(name) for name in get_testdata_files() if Path(name).is_file()]
    for path in names:
        found = data_set_of(path)
        start = found and read_start(memoryview(found[0]), found[1], is_whole=True)
        if not start:
            continue
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        for tag in WANTED:
            element = ds.get_item(tag) if tag in ds else None
            if element is None or isinstance(element, RawDataElement):
                value = (element.value or b"") if element else b""
                assert start.walked.values.get(tag, b"") == value, (path, hex(tag))
                compared += 1
    assert compared > 500


ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
OPEN = 0xFFFFFFFF


def mark(tag: tuple[int, int], length: int = 0) -> bytes:
    return struct.pack("<HHL", *tag, length)


def short(tag: tuple[int, int], vr: bytes, value: bytes, length: int | None = None) -> bytes:
    said = len(value) if length is None else length
    return struct.pack("<HH2sH", *tag, vr, said) + value


def long(tag: tuple[int, int], vr: bytes, value: bytes, length: int | None = None) -> bytes:
    said = len(value) if length is None else length
    return struct.pack("<HH2sHL", *tag, vr, 0, said) + value


def sequence(inner: bytes, item_length: int | None = None) -> bytes:
    item = mark(ITEM, len(inner) if item_length is None else item_length) + inner
    return long((0x0040, 0xA730), b"SQ", item)


CODE = short((0x0008, 0x0100), b"SH", b"C-12")
IMPLICIT_CODE = struct.pack("<HHL", 0x0008, 0x0100, 4) + b"C-12"
PIXELS = long((0x7FE0, 0x0010), b"OW", bytes(64))
ODD = {
    "an element longer than its item": sequence(short((8, 0x100), b"SH", b"C-12", 6) + CODE, 12)
    + CODE,
    "an element as long as its item": sequence(CODE),
    "an item longer than its sequence": long((0x0040, 0xA730), b"SQ", mark(ITEM, 14) + CODE),
    "an item shorter than its elements": sequence(CODE, 10),
    "a sequence that ends within an item": long((0x0040, 0xA730), b"SQ", mark(ITEM, 12) + CODE, 14),
    "an open item in a stated sequence": sequence(CODE + mark(ITEM_END), OPEN),
    "an open item without its end": sequence(CODE, OPEN),
    "an open OB that holds items": long((0x0040, 0xA730), b"OB", mark(ITEM, 12) + CODE
    + mark(SEQUENCE_END), OPEN),
    "an open UN that holds implicit elements": long((0x0041, 0x1030), b"UN", mark(ITEM, 12)
    + IMPLICIT_CODE + mark(SEQUENCE_END), OPEN),
    "an open UN that holds explicit elements": long((0x0041, 0x1030), b"UN", mark(ITEM, 12)
    + CODE + mark(SEQUENCE_END), OPEN),
    "a stated UN that holds anything": long((0x0041, 0x1030), b"UN", b"anything"),
    "an implicit item in an explicit sequence": sequence(IMPLICIT_CODE),
    "an odd length in an item": sequence(short((8, 0x100), b"SH", b"odd")),
    "an odd length of an item": sequence(short((8, 0x100), b"SH", b"odd"), 11),
    "a delimiter that says it is a sequence": long(SEQUENCE_END, b"SQ", b""),
    "a delimiter that says it is a code": short(ITEM_END, b"CS", b""),
    "an element of tag 0": short((0, 0), b"UL", bytes(4)),
    "an open element of tag 0": long((0, 0), b"SQ", mark(SEQUENCE_END), OPEN),
    "zeros": bytes(64),
    "zeros that are no whole element": bytes(61),
    "zeros and more": bytes(64) + CODE,
    "a delimiter in an item": sequence(CODE + mark(SEQUENCE_END)),
    "an element of another kind among items": long((0x0040, 0xA730), b"SQ", CODE),
    "a wanted value of no short length": short((0x0010, 0x0020), b"LO", b"P" * 3000),
    "a wanted value that is a sequence": long((0x0010, 0x0020), b"SQ", mark(ITEM, 12) + CODE),
    "a wanted value twice": short((0x0010, 0x0020), b"LO", b"P1") * 2,
    "pixels twice": PIXELS + long((0x7FE0, 0x0010), b"OW", bytes(2)),
    "pixels that are a sequence": long((0x7FE0, 0x0010), b"SQ", mark(ITEM, 12) + CODE),
    "open pixels that are a sequence": long((0x7FE0, 0x0010), b"SQ", mark(ITEM, 12) + CODE
    + mark(SEQUENCE_END), OPEN),
    "fragments": long((0x7FE0, 0x0010), b"OB", mark(ITEM) + mark(ITEM, 4) + b"abcd"
    + mark(SEQUENCE_END), OPEN),
    "fragments with an element among them": long((0x7FE0, 0x0010), b"OB", mark(ITEM) + CODE
    + mark(SEQUENCE_END), OPEN),
    "fragments with their like among them": long((0x7FE0, 0x0010), b"OB", mark(ITEM)
    + mark(ITEM_END, 4) + b"abcd" + mark(SEQUENCE_END), OPEN),
    "fragments of an odd length": long((0x7FE0, 0x0010), b"OB", mark(ITEM, 3) + b"abc"
    + mark(SEQUENCE_END), OPEN),
    "fragments without an end": long((0x7FE0, 0x0010), b"OB", mark(ITEM, 4) + b"abcd", OPEN),
    "an open fragment": long((0x7FE0, 0x0010), b"OB", mark(ITEM, OPEN) + b"abcd"
    + mark(SEQUENCE_END), OPEN),
    "an open icon": sequence(long((0x7FE0, 0x0010), b"OB", mark(ITEM, 4) + b"abcd"
    + mark(SEQUENCE_END), OPEN)),
    "an unknown representation": short((0x0041, 0x1031), b"ZZ", b"abcd"),
    "half an element": CODE[:5],
    "half a long element": long((0x0041, 0x1031), b"OB", b"")[:9],
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_judged_as_the_reference_judges_it_at_every_cut(name: str) -> None:
    head = encoded(ct_slice(size=4))
    head = head[: head.rindex(b"\xe0\x7f\x10\x00OW")]
    for data in (head + ODD[name] + PIXELS, head + ODD[name]):
        reference = refused(read_header, data, LITTLE)
        assert refused(read_whole, data, LITTLE) == reference
        for cut in (0, 7, 20, *range(len(head) - 3, len(data) + 1)):
            found = walked(data, LITTLE, cut)
            assert found is None or found == reference, cut
            # What the size alone tells: it is less, or more, than was said.
            for size in (len(data) - 2, len(data) + 4):
                start = read_start(memoryview(data)[:cut], LITTLE, is_whole=False)
                header = start and header_of_start(start, size, LITTLE)
                shown = data[:size] + bytes(max(size - len(data), 0))
                assert header is None or header == refused(read_header, shown, LITTLE), cut


def test_of_fragments_the_beginning_tells_the_values_and_only_the_whole_the_header() -> None:
    head = encoded(ct_slice(size=4))
    data = head[: head.rindex(b"\xe0\x7f\x10\x00OW")] + ODD["fragments"]
    for cut in (len(data) - 20, len(data)):
        start = read_start(memoryview(data)[:cut], generated.JPEG, is_whole=cut == len(data))
        assert start is not None
        assert (start.end, start.walked.values[0x00200013]) == (-1, b"1 ")
        assert header_of_start(start, len(data), generated.JPEG) is None
    assert read_whole(memoryview(data), generated.JPEG).instance_number == "1"


def test_a_value_that_the_beginning_cuts_off_is_not_taken_for_whole() -> None:
    data = encoded(uids()) + short((0x0020, 0x0013), b"IS", b"12345678")
    for cut in range(len(data) - 9, len(data)):
        assert walked(data, LITTLE, cut) is None
    header = walked(data, LITTLE, len(data))
    assert header is not None
    assert header.instance_number == "12345678"


def test_what_the_size_belies_is_left_to_the_reference() -> None:
    data = encoded(ct_slice(size=512))
    start = read_start(memoryview(data)[:9000], LITTLE, is_whole=False)
    assert start is not None
    assert header_of_start(start, len(data), LITTLE) is not None
    for size in (len(data) - 2, len(data) + 2, 0):
        assert header_of_start(start, size, LITTLE) is None


def test_images_of_one_series_keep_their_own_numbers_and_uids() -> None:
    made = [encoded(ct_slice(number, size=16)) for number in range(1, 30)]
    headers = [walked(data, LITTLE, len(data)) for data in made]
    assert [header and header.instance_number for header in headers] == [
        str(number) for number in range(1, 30)
    ]
    assert headers == [read_header(data, LITTLE) for data in made]
