"""Malformed data sets, made in code, and those that pydicom brings: what each must be answered.

Every one is sent as a C-STORE's data set, byte by byte as it stands here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from appliance.dicom import part10

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, LITTLE, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
)
KEPT, NO_MATCH, NOT_UNDERSTOOD = 0x0000, 0xA900, 0xC000
OPEN = 0xFFFFFFFF
MB = 1_000_000
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD)


@dataclass(frozen=True)
class Malformed:
    """One data set with the UIDs that its request says, and the status that it must get."""

    name: str
    data: bytes
    status: int
    sop_instance_uid: str
    sop_class_uid: str = CT
    transfer_syntax_uid: str = LITTLE

    def __str__(self) -> str:
        return self.name

    @property
    def part10(self) -> bytes:
        """The same as a file."""
        meta = part10.FileMeta(
            self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid
        )
        return part10.encode(meta) + self.data


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Encode an element in explicit little endian; `length` is what it says of itself."""
    value += b"\0" * (len(value) % 2)
    said = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + struct.pack("<HL", 0, said) + value
    return head + struct.pack("<H", said) + value


def mark(tag: int, length: int = 0) -> bytes:
    """Encode an item, or a delimiter."""
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)


def head(uid: str, study: str = "", series: str = "", *, implicit: bool = False) -> bytes:
    """Encode what every instance must have, and a patient."""
    texts = {
        0x00080016: (b"UI", CT),
        0x00080018: (b"UI", uid),
        0x00100010: (b"PN", "Malformed^Max"),
        0x00100020: (b"LO", "M-1"),
        0x0020000D: (b"UI", study or generate_uid()),
        0x0020000E: (b"UI", series or generate_uid()),
    }
    if not implicit:
        return b"".join(element(tag, vr, text.encode()) for tag, (vr, text) in texts.items())
    encoded = b""
    for tag, (_, text) in texts.items():
        value = text.encode() + b"\0" * (len(text) % 2)
        encoded += struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
    return encoded


def nested(levels: int, *, stated: bool) -> bytes:
    """Encode sequences in sequences, with their lengths stated or with delimiters."""
    inner = b""
    for _ in range(levels):
        if stated:
            inner = mark(_ITEM, len(inner)) + inner
            inner = element(0x00081140, b"SQ", b"", len(inner)) + inner
        else:
            inner = mark(_ITEM, OPEN) + inner + mark(_ITEM_END)
            inner = element(0x00081140, b"SQ", b"", OPEN) + inner + mark(_SEQUENCE_END)
    return inner


def deflated(data: bytes, again: bytes = b"", times: int = 0) -> bytes:
    """Deflate some bytes, and others so many times after them, without having them all."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    begin = deflater.compress(data) + deflater.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block leans on nothing before it: it may stand there many times.
    block = deflater.compress(again) + deflater.flush(zlib.Z_FULL_FLUSH)
    return begin + block * times + deflater.flush()


def _tails() -> Iterator[tuple[str, bytes, int]]:
    """Name what may stand behind a good beginning, and the status of the whole."""
    for vr in (b"OB", b"OW", b"UN", b"UT"):
        name = vr.decode()
        yield f"4 GiB of {name}", element(0x60021010, vr, b"12", OPEN - 1), NOT_UNDERSTOOD
    yield "pixels that claim 4 GiB", element(0x7FE00010, b"OW", b"12", OPEN - 1), NOT_UNDERSTOOD
    yield "a short length that lies", element(0x00204000, b"LT", b"text", 60_000), NOT_UNDERSTOOD
    yield "an open length of no sequence", element(0x00204000, b"UT", b"x", OPEN), NOT_UNDERSTOOD
    yield "a sequence that claims 4 GiB", element(0x00081140, b"SQ", b"", OPEN - 1), NOT_UNDERSTOOD
    too_long = element(0x00081140, b"SQ", mark(_ITEM, OPEN - 1))
    yield "an item that claims 4 GiB", too_long, NOT_UNDERSTOOD
    yield "an item without a sequence", mark(_ITEM, 0), NOT_UNDERSTOOD
    yield "a delimiter without a sequence", mark(_SEQUENCE_END), NOT_UNDERSTOOD
    unended = element(0x00081140, b"SQ", b"", OPEN) + mark(_ITEM, OPEN)
    yield "a sequence without an end", unended, NOT_UNDERSTOOD
    fragments = element(0x7FE00010, b"OB", b"", OPEN) + mark(_ITEM) + mark(_ITEM, 0xFFFFFF00)
    yield "a fragment that claims 4 GiB", fragments, NOT_UNDERSTOOD
    yield "half an element", struct.pack("<HH", 0x7FE1, 0x0010) + b"OB\1", NOT_UNDERSTOOD
    for stated in (True, False):
        how = "stated" if stated else "open"
        for levels, status in ((64, KEPT), (400, NOT_UNDERSTOOD), (20_000, NOT_UNDERSTOOD)):
            yield f"{levels} levels, {how}", nested(levels, stated=stated), status
    yield "a megabyte of text", element(0x00204000, b"UT", b"x" * 1_000_000), KEPT
    yield "zeros behind the end", bytes(100_000), KEPT
    yield "an odd length", element(0x00104000, b"LT", b"", 3) + b"odd", KEPT
    yield "a value representation of nowhere", element(0x00204000, b"??", b"1234"), KEPT


@cache
def made() -> tuple[Malformed, ...]:
    """Make every one; each has a SOP Instance UID of its own."""
    found = []
    for name, tail, status in _tails():
        uid = generate_uid()
        found.append(Malformed(name, head(uid) + tail, status, uid))
    found += _implicit()
    found += _bad_uids()
    found += _bombs()
    uid = generate_uid()
    found.append(Malformed("noise", b"\x9d\x13\xff" * 3000, NOT_UNDERSTOOD, uid))
    found.append(Malformed("a few bytes", b"\x08\0\x16", NO_MATCH, uid))
    return tuple(found)


def _implicit() -> Iterator[Malformed]:
    uid = generate_uid()
    lie = struct.pack("<HHL", 0x7FE0, 0x0010, OPEN - 1) + b"12"
    data = head(uid, implicit=True) + lie
    yield Malformed("4 GiB, implicit", data, NOT_UNDERSTOOD, uid, transfer_syntax_uid=IMPLICIT)


def _bad_uids() -> Iterator[Malformed]:
    for uid in ("../../../../etc/passwd", "/etc/passwd", "1.2/../3", "1.2.3\n4", "1." + "2" * 70):
        yield Malformed(f"SOP Instance UID {uid[:22]!r}", head(uid), NOT_UNDERSTOOD, uid)
    for name in ("study", "series"):
        uid = generate_uid()
        data = head(uid, **{name: "../../../../tmp/evil"})  # type: ignore[arg-type]
        yield Malformed(f"{name} UID with ../", data, NOT_UNDERSTOOD, uid)
        data = head(uid, **{name: "\0\0"})  # type: ignore[arg-type]
        yield Malformed(f"{name} UID of NUL", data, NO_MATCH, uid)
    uid = generate_uid()
    yield Malformed("another UID than the request", head(generate_uid()), NO_MATCH, uid)


def _bombs() -> Iterator[Malformed]:
    empty = struct.pack("<HH2sH", 0x6001, 0x1001, b"LO", 0)
    pixels = element(0x7FE00010, b"OW", b"", 400 * MB)
    for name, start, again, times in (
        ("400 MB of pixels, deflated", pixels, bytes(MB), 400),
        ("400 MB of zeros, deflated", b"", bytes(MB), 400),
        ("thirteen million elements, deflated", b"", empty * 131_072, 100),
    ):
        uid = generate_uid()
        data = deflated(head(uid) + start, again, times)
        yield Malformed(name, data, KEPT, uid, transfer_syntax_uid=DEFLATED)
    uid = generate_uid()
    many = head(uid) + empty * 1_050_000
    yield Malformed("a million empty elements", many, NOT_UNDERSTOOD, uid)
    uid = generate_uid()
    cut = deflated(head(uid))[:-4]
    yield Malformed("deflated, cut off", cut, NOT_UNDERSTOOD, uid, transfer_syntax_uid=DEFLATED)
    no_stream = b"this is not deflated at all"
    yield Malformed("not deflated", no_stream, NOT_UNDERSTOOD, uid, transfer_syntax_uid=DEFLATED)


# Files that pydicom's own tests read; their data sets are sent as they stand.
OF_PYDICOM = {
    "MR_truncated.dcm": NOT_UNDERSTOOD,
    "rtplan_truncated.dcm": NOT_UNDERSTOOD,
    "badVR.dcm": KEPT,
    "no_meta.dcm": NOT_UNDERSTOOD,  # it begins with a byte too many
    "no_meta_group_length.dcm": NO_MATCH,  # it lacks UIDs
    "meta_missing_tsyntax.dcm": NO_MATCH,  # it lacks UIDs
    "ExplVR_BigEndNoMeta.dcm": KEPT,
    "ExplVR_LitEndNoMeta.dcm": KEPT,
    "MR_small_padded.dcm": KEPT,
    "SC_rgb_small_odd.dcm": KEPT,
    "SC_rgb_small_odd_big_endian.dcm": KEPT,
    "JPEG2000-embedded-sequence-delimiter.dcm": KEPT,
    "image_dfl.dcm": KEPT,
    "empty_charset_LEI.dcm": NO_MATCH,  # it lacks UIDs
    "reportsi_with_empty_number_tags.dcm": KEPT,
    "nested_priv_SQ.dcm": NO_MATCH,  # it lacks UIDs
    "priv_SQ.dcm": NO_MATCH,  # it lacks UIDs
    "UN_sequence.dcm": NO_MATCH,  # it lacks UIDs
}


@cache
def of_pydicom() -> tuple[Malformed, ...]:
    """Read pydicom's files as far as is needed to ask for them."""
    found = []
    for name, status in OF_PYDICOM.items():
        path = get_testdata_file(name)
        raw = open(path, "rb").read()  # noqa: SIM115
        meta, start = part10.read_meta(raw)
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        found.append(
            Malformed(
                name,
                raw[start:],
                status,
                str(ds.get("SOPInstanceUID", "")) or generate_uid(),
                str(ds.get("SOPClassUID", "")) or CT,
                meta.transfer_syntax_uid,
            )
        )
    return tuple(found)
