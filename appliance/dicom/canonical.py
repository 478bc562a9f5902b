"""Whether two data sets are the same content in other bytes.

Senders write one instance with implicit or explicit value representations, with
sequences of stated or open length, with group lengths and padding or without.  Its
content is what is left without that: tags, values, items.  Compressed and
uncompressed pixel data are never the same here, since nothing is decoded.
"""

from __future__ import annotations

import functools
import hashlib

from pydicom.datadict import dictionary_VR

from appliance.dicom.structure import Encoding, encoding_of, walk

_TRAILING_PADDING = 0xFFFCFFFC
_WIDTHS = {
    b"AT": 2, b"OW": 2, b"SS": 2, b"US": 2,
    b"FL": 4, b"OF": 4, b"OL": 4, b"SL": 4, b"UL": 4,
    b"FD": 8, b"OD": 8, b"OV": 8, b"SV": 8, b"UV": 8,
}  # fmt: skip
# What PS3.5 6.2 pads to an even length, with a space or, for UIDs, with a NUL.
_PADDED = {
    "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR",
    "UT",
}  # fmt: skip


def content_digest(data_set: memoryview, transfer_syntax_uid: str) -> str:
    """Give the SHA-256 of what a data set says, however it is written (PS3.5 7, Annex A).

    Compressed pixel data count with their transfer syntax.  Raises CannotUnderstand as the
    walk does, also for a deflated data set that is too large to compare.
    """
    content = Content(encoding_of(transfer_syntax_uid), transfer_syntax_uid)
    walk(data_set, content.encoding, content)
    return content.digest.hexdigest()


class Content:
    """What a walk meets, as a digest."""

    def __init__(self, encoding: Encoding, transfer_syntax_uid: str) -> None:
        self.encoding = encoding
        self.digest = hashlib.sha256()
        self._syntax = transfer_syntax_uid.encode()

    def element(self, tag: int, vr: bytes, value: memoryview) -> None:
        """Take one value; group lengths and padding say nothing."""
        if not is_said(tag):
            return
        value = little(value, vr, self.encoding)
        if _is_padded(tag):
            value = memoryview(bytes(value).rstrip(b" \0"))
        self._add(b"v", tag, len(value))
        self.digest.update(value)

    def enter(self, kind: str, tag: int) -> None:
        """Begin a sequence, an item of one, or pixel fragments."""
        self._add(b"(", tag, 0)
        if kind == "fragments":
            self.digest.update(self._syntax)

    def leave(self) -> None:
        """End what was entered last."""
        self.digest.update(b")")

    def fragment(self, value: memoryview) -> None:
        """Take one fragment of compressed pixel data."""
        self._add(b"f", 0, len(value))
        self.digest.update(value)

    def _add(self, mark: bytes, tag: int, length: int) -> None:
        self.digest.update(mark + tag.to_bytes(4, "big") + length.to_bytes(8, "big"))


def is_said(tag: int) -> bool:
    """Say whether an element counts: group lengths and padding say nothing."""
    return tag & 0xFFFF != 0 and tag != _TRAILING_PADDING


def little(value: memoryview, vr: bytes, encoding: Encoding) -> memoryview:
    """Give a value as it stands in little endian."""
    if encoding.is_big_endian and (width := _WIDTHS.get(vr)):
        return memoryview(_swapped(value, width))
    return value


@functools.lru_cache(maxsize=10_000)
def _is_padded(tag: int) -> bool:
    """Say whether the standard pads the value of this element; of a private one nobody knows."""
    try:
        return dictionary_VR(tag) in _PADDED
    except KeyError:
        return False


def _swapped(value: memoryview, width: int) -> bytes:
    """Turn words of so many bytes round; an odd rest stays as it is."""
    whole = len(value) // width * width
    turned = bytearray(value)
    for byte in range(width):
        turned[byte:whole:width] = bytes(value[width - 1 - byte : whole : width])
    return bytes(turned)
