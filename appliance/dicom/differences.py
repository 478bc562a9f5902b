"""Which elements of two data sets differ, with both values as short text, for a person.

The files may be made to cost time: of each at most so many elements and bytes are
compared, and what was left out is said.  A sequence is one element here, pixel data are
told by their size and a digest.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import dictionary_VR, keyword_for_tag

from appliance.amounts import count, of_disk
from appliance.dicom import part10, text
from appliance.dicom.canonical import Content, is_said, little
from appliance.dicom.header import opened
from appliance.dicom.structure import encoding_of, walk

MOST_STEPS = 20_000  # elements, items and fragments of one file: each costs microseconds
MOST_BYTES = 32_000_000  # of one file: of values beyond them only the sizes are compared
MOST_DEFLATED_BYTES = 1_000_000  # a deflated data set is inflated as a whole before it is walked
_LONGEST_TEXT = 60
_MOST_NUMBERS = 8
_LONGEST_START = 1024
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_CHARACTER_SET = 0x00080005
_NUMBERS = {
    "US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "UV": "Q", "SV": "q",
    "AT": "HH",
}  # fmt: skip
_BYTES = {"OB", "OW", "OD", "OF", "OL", "OV", "UN", "OB or OW"}


@dataclass(frozen=True, slots=True)
class Difference:
    """One element with its values in both; "" where it is not there at all."""

    name: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Differences:
    """What differs, in order of tags; `is_whole` when both were compared to their end."""

    elements: tuple[Difference, ...]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Element:
    """One top-level element: what it says, as a digest, and its beginning to be shown."""

    digest: bytes
    size: int
    vr: str
    start: bytes
    items: int | None = None  # of a sequence, or the fragments of pixel data


class _Enough(Exception):
    """The walk has gone as far as it may."""


def differences(first: Path, second: Path) -> Differences:
    """Compare two Part 10 files.  Raises CannotUnderstand, and OSError for one that is gone."""
    one, two = _Elements.of(first), _Elements.of(second)
    is_whole = one.is_whole and two.is_whole
    tags = one.found.keys() & two.found.keys()
    if not (one.is_cut or two.is_cut):  # else what only one has may stand in the other's rest
        tags = one.found.keys() | two.found.keys()
    found = []
    for tag in sorted(tags):
        mine, its = one.found.get(tag), two.found.get(tag)
        if mine is None or its is None or mine.digest != its.digest:
            found.append(Difference(_name(tag), one.said(tag), two.said(tag)))
    return Differences(tuple(found), is_whole)


class _Elements:
    """What a walk meets at the top level of one data set."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self.found: dict[int, _Element] = {}
        self.is_whole = True  # every byte was compared
        self.is_cut = False  # the walk did not come to the end
        self._syntax = transfer_syntax_uid
        self._encoding = encoding_of(transfer_syntax_uid)
        self._steps = self._bytes = 0
        self._depth = 0
        self._inside = Content(self._encoding, transfer_syntax_uid)
        self._tag = self._size = self._items = 0

    @classmethod
    def of(cls, file: Path) -> _Elements:
        """Walk a file as far as it may cost."""
        meta, start, size = *part10.read_meta(file), file.stat().st_size
        self = cls(meta.transfer_syntax_uid)
        if self._encoding.is_deflated and size > MOST_DEFLATED_BYTES:
            self.is_whole, self.is_cut = False, True
            return self
        with opened(file) as view, view[start:] as data_set:
            try:
                walk(data_set, self._encoding, self)
            except _Enough:
                self.is_whole, self.is_cut = False, True
        return self

    def said(self, tag: int) -> str:
        """Give an element's value as short text; "" when it is not there."""
        element = self.found.get(tag)
        if element is None:
            return ""
        if tag in _PIXELS:
            return f"{of_disk(element.size)}, digest {element.digest.hex()[:12]}"
        if element.items is not None:
            return f"{count(element.items, 'item')}, digest {element.digest.hex()[:12]}"
        return self._text(element) or "(empty)"

    def _text(self, element: _Element) -> str:
        if element.vr in _NUMBERS:
            return self._numbers(element)
        if element.vr in _BYTES:
            known = f"{of_disk(element.size)}, digest {element.digest.hex()[:12]}"
            return known if element.size else ""
        charset = self.found.get(_CHARACTER_SET)
        whole = text.decode(element.start, text.encodings_of(charset.start if charset else b""))
        return whole if len(whole) <= _LONGEST_TEXT else f"{whole[:_LONGEST_TEXT]}…"

    def _numbers(self, element: _Element) -> str:
        one = struct.Struct("<" + _NUMBERS[element.vr])
        whole = len(element.start) // one.size
        numbers = [
            one.unpack_from(element.start, number * one.size)
            for number in range(min(whole, _MOST_NUMBERS))
        ]
        said = ", ".join(_number(*parts) for parts in numbers)
        return f"{said}, …" if element.size > _MOST_NUMBERS * one.size else said

    # -- what the walk tells ------------------------------------------------------------------

    def element(self, tag: int, vr: bytes, value: memoryview) -> None:
        """Take one value."""
        size, start = len(value), value[:_LONGEST_START]
        value = self._spent(value)
        self._size += size
        if self._depth:
            self._inside.element(tag, vr, value)
        elif is_said(tag):
            content = Content(self._encoding, self._syntax)
            content.element(tag, vr, value)
            if len(value) < size:
                content.digest.update(size.to_bytes(8, "big"))
            head = bytes(little(start, vr, self._encoding))
            digest = content.digest.digest()
            self.found[tag] = _Element(digest, size, _vr_of(tag, vr), head)

    def enter(self, kind: str, tag: int) -> None:
        """Begin a sequence, an item of one, or pixel fragments."""
        self._spent(memoryview(b""))
        if not self._depth:
            self._inside = Content(self._encoding, self._syntax)
            self._tag, self._size, self._items = tag, 0, 0
        elif self._depth == 1:
            self._items += 1
        self._depth += 1
        self._inside.enter(kind, tag)

    def leave(self) -> None:
        """End what was entered last."""
        self._depth -= 1
        self._inside.leave()
        if not self._depth:
            self._inside.digest.update(self._size.to_bytes(8, "big"))
            digest = self._inside.digest.digest()
            self.found[self._tag] = _Element(digest, self._size, "SQ", b"", self._items)

    def fragment(self, value: memoryview) -> None:
        """Take one fragment of compressed pixel data."""
        self._size += len(value)
        self._inside.fragment(self._spent(value))

    def _spent(self, value: memoryview) -> memoryview:
        """Give as much of a value as may still be compared."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise _Enough
        left = MOST_BYTES - self._bytes
        self._bytes += min(len(value), left)
        self.is_whole &= len(value) <= left
        return value[:left]


def _number(value: float, element: int | None = None) -> str:
    """Say one number, or a tag, which is two."""
    if element is not None:
        return f"({value:04X},{element:04X})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _vr_of(tag: int, vr: bytes) -> str:
    """Give the value representation as it was written, of an implicit one what the standard has."""
    if vr != b"UN":
        return vr.decode("ascii", "replace")
    with contextlib.suppress(KeyError):
        return dictionary_VR(tag).replace("US or SS", "US").replace("US or OW", "OW")
    return "UN"


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
