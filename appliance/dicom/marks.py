"""Marks: what of an instance is not as the standard wants it, though it is kept.

Old and broken equipment is not turned away for what hurts nobody.  What was found
stands as a few codes with the instance in the index, and in words for a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from appliance.dicom.structure import Walked

ByteOrder = Literal["little", "big"]

NO_PATIENT_ID = "no-patient-id"
LEADING_ZEROS = "leading-zeros"
ODD_LENGTHS = "odd-lengths"
SHORT_PIXELS = "short-pixels"
OTHER_ENCODING = "other-encoding"
UNKNOWN_VR = "unknown-vr"
UNREADABLE_TEXT = "unreadable-text"
COERCED = "coerced"

WORDS = {
    NO_PATIENT_ID: "the Patient ID is empty",
    LEADING_ZEROS: "a UID has a component with leading zeros",
    ODD_LENGTHS: "a value has an odd length",
    SHORT_PIXELS: "the pixel data are shorter than the image",
    OTHER_ENCODING: "it is implicit where explicit was agreed, or explicit where implicit was",
    UNKNOWN_VR: "a value representation is none of the standard",
    UNREADABLE_TEXT: "text does not fit the character set that it states",
    COERCED: "it lacked a UID, and the node made one",
}

ROWS, COLUMNS, SAMPLES, BITS_ALLOCATED = 0x00280010, 0x00280011, 0x00280002, 0x00280100
FRAMES, PHOTOMETRIC = 0x00280008, 0x00280004
PIXEL_TAGS = frozenset([ROWS, COLUMNS, SAMPLES, BITS_ALLOCATED, FRAMES, PHOTOMETRIC])
_NATIVE: dict[str, ByteOrder] = {
    "1.2.840.10008.1.2": "little",
    "1.2.840.10008.1.2.1": "little",
    "1.2.840.10008.1.2.1.99": "little",
    "1.2.840.10008.1.2.2": "big",
}
_LEADING_ZERO = re.compile(r"(?:^|\.)0[^.]")
# Of two pixels side by side these keep one colour (PS3.3 C.7.6.3.1.2).
_SUBSAMPLED = (b"YBR_FULL_422", b"YBR_PARTIAL_422")


def in_words(codes: str | Sequence[str]) -> list[str]:
    """Say what marks mean; `codes` may be the comma-separated text of the index."""
    listed = codes.split(",") if isinstance(codes, str) else codes
    return [WORDS.get(code, code) for code in listed if code]


def marks_of(
    walked: Walked,
    transfer_syntax_uid: str,
    *,
    is_implicit_agreed: bool,
    uids: Iterable[str],
    patient_id: str,
    texts: Iterable[str],
) -> tuple[str, ...]:
    """Give the codes of what is not as it should be, in the order of `WORDS`.  Never raises."""
    found = {
        NO_PATIENT_ID: not patient_id,
        LEADING_ZEROS: any(has_leading_zeros(uid) for uid in uids),
        ODD_LENGTHS: walked.has_odd_lengths,
        SHORT_PIXELS: _is_short(walked, transfer_syntax_uid),
        OTHER_ENCODING: walked.is_implicit != is_implicit_agreed,
        UNKNOWN_VR: walked.has_unknown_vrs,
        UNREADABLE_TEXT: any("\N{REPLACEMENT CHARACTER}" in text for text in texts),
    }
    return tuple(code for code, is_so in found.items() if is_so)


def pixel_bytes(values: Mapping[int, bytes], byte_order: ByteOrder) -> int:
    """Give how many bytes the frames of an image take without compression; 0 when unknown.

    Rows x Columns x Samples per Pixel x Bits Allocated x frames (PS3.5 8.1.1), whatever
    absurd values there are.
    """
    rows, columns, bits = (
        _number(values, tag, byte_order) for tag in (ROWS, COLUMNS, BITS_ALLOCATED)
    )
    samples = _number(values, SAMPLES, byte_order) or 1
    if values.get(PHOTOMETRIC, b"").strip(b"\0 ") in _SUBSAMPLED:
        samples = min(samples, 2)
    return (rows * columns * samples * bits * _frames(values) + 7) // 8


def least_pixel_bytes(values: Mapping[int, bytes], transfer_syntax_uid: str) -> int:
    """Give how many bytes Pixel Data of defined length have to have; 0 when that is not known."""
    byte_order = _NATIVE.get(transfer_syntax_uid)
    return pixel_bytes(values, byte_order) if byte_order else 0


def has_leading_zeros(uid: str) -> bool:
    """Say whether a component of a UID has them, which PS3.5 9.1 forbids."""
    return _LEADING_ZERO.search(uid) is not None


def _is_short(walked: Walked, transfer_syntax_uid: str) -> bool:
    if walked.native_pixel_bytes is None or walked.is_cut:
        return False
    return walked.native_pixel_bytes < least_pixel_bytes(walked.values, transfer_syntax_uid)


def _number(values: Mapping[int, bytes], tag: int, byte_order: ByteOrder) -> int:
    """Read an unsigned value; old writers give some of them 4 bytes."""
    value = values.get(tag, b"")
    width = 4 if len(value) == 4 else 2
    return int.from_bytes(value[:width], byte_order)


def _frames(values: Mapping[int, bytes]) -> int:
    text = values.get(FRAMES, b"").strip(b"\0 ")
    # Longer than any IS: int() would take its time over a million digits.
    return int(text) if 0 < len(text) <= 12 and text.isdigit() and int(text) > 0 else 1
