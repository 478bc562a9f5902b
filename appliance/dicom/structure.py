"""Walk the elements of a data set without believing any length it states.

The walk goes from the first byte to the last and never calls itself: a data set
nested 20,000 levels deep costs no stack.  It refuses what no reader could walk
(an element longer than what holds it, nesting over 64 levels) and lets pass what
old equipment sends and readers manage: odd lengths, unknown value
representations, items in the other encoding, zero bytes after the end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from pydicom._dicom_dict import DicomDictionary

from appliance.errors import CannotUnderstand

DEEPEST = 64
# Elements and items, each of which costs time.  An enhanced multi-frame object of ten thousand
# frames has some hundred thousand, the densest of 12 bytes on average, values and all.
MOST_ELEMENTS = 3_000_000
MANY_ELEMENTS, LEAST_BYTES_EACH = 1_000_000, 11
MOST_INFLATED_BYTES = 64 * 1024 * 1024
# Elements cost time, and in a deflated data set a sender gets a thousand for one byte.
MOST_INFLATED_ELEMENTS = 100_000
_MOST_PADDING = 1_000_000
LONGEST_VALUE = 1 << 16
_STEPS_BETWEEN_LOOKS = 10_000

_IMPLICIT = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}

UNDEFINED = 0xFFFFFFFF
DELIMITERS = _ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SEQUENCES = frozenset(tag for tag, known in DicomDictionary.items() if known[0] == "SQ")
PIXEL_DATA = {0x7FE00010, 0x7FE00008, 0x7FE00009}
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
SHORT = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
    b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoding:
    """How elements are written, as far as a walk must know."""

    is_implicit: bool
    is_big_endian: bool
    is_deflated: bool = False


@dataclass(slots=True)
class Walked:
    """What a walk to the end found out about a data set beside that it can be walked.

    `values` are those of the wanted top-level elements.  Of each wanted tag `places` says
    where its last element begins and ends, and `gaps` where one would belong.
    """

    values: dict[int, bytes] = field(default_factory=dict)
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    gaps: dict[int, int] = field(default_factory=dict)
    is_implicit: bool = False  # as the data set itself is written, whatever was negotiated
    has_odd_lengths: bool = False
    has_unknown_vrs: bool = False
    native_pixel_bytes: int | None = None  # None: there are none, or they are fragments
    is_cut: bool = False  # it was inflated only so far


class Listener(Protocol):
    """Who wants to hear what a walk meets, in order."""

    def element(self, tag: int, vr: bytes, value: memoryview) -> None:
        """Hear of a value; `vr` is as it was written, of an implicit one SQ or UN."""

    def enter(self, kind: str, tag: int) -> None:
        """Hear that a sequence, a data set in one, or fragments begin."""

    def leave(self) -> None:
        """Hear that what was entered last ends."""

    def fragment(self, value: memoryview) -> None:
        """Hear of one fragment of pixel data."""


@lru_cache(maxsize=64)
def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """Give the encoding of a transfer syntax; private ones are explicit little endian."""
    return Encoding(
        is_implicit=transfer_syntax_uid == _IMPLICIT,
        is_big_endian=transfer_syntax_uid == _BIG_ENDIAN,
        is_deflated=transfer_syntax_uid in _DEFLATED,
    )


def guess_transfer_syntax(start: bytes) -> str:
    """Guess the transfer syntax of a data set that says none, from its first 8 bytes."""
    little, big = struct.unpack_from("<H", start)[0], struct.unpack_from(">H", start)[0]
    if bytes(start[4:6]) in LONG | SHORT:
        return "1.2.840.10008.1.2.1" if little <= big else _BIG_ENDIAN
    return _IMPLICIT


def look_through(
    data_set: memoryview, encoding: Encoding, wanted: Collection[int], places: Collection[int] = ()
) -> Walked:
    """Walk a whole data set and give the values of the wanted top-level elements.

    Of an element that stands twice the last value counts.  `places` are the tags of which
    it is asked where they stand.  Raises CannotUnderstand.
    """
    if not encoding.is_deflated:
        return _Walk(data_set, encoding, wanted, is_cut=False, places=places).run()
    inflated, is_cut = _inflate(data_set)
    return _Walk(memoryview(inflated), encoding, wanted, is_cut).run()


def walk(data_set: memoryview, encoding: Encoding, listener: Listener) -> None:
    """Walk a whole data set and tell a listener of all of it.  Raises CannotUnderstand."""
    is_cut = False
    if encoding.is_deflated:
        inflated, is_cut = _inflate(data_set)
        data_set = memoryview(inflated)
    if is_cut:
        raise _refused(f"it is larger than {MOST_INFLATED_BYTES:,} bytes when it is inflated")
    if _Walk(data_set, encoding, (), is_cut, listener).run().is_cut:
        raise _refused(f"it has more than {MOST_INFLATED_ELEMENTS:,} elements when it is inflated")


def _inflate(data_set: memoryview) -> tuple[bytes, bool]:
    """Inflate at most MOST_INFLATED_BYTES; True when there would be more."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data_set, MOST_INFLATED_BYTES)
    except zlib.error as error:
        raise _refused(f"the data set cannot be inflated ({error})") from error
    is_cut = bool(inflater.unconsumed_tail) or len(inflated) >= MOST_INFLATED_BYTES
    if not is_cut and not inflater.eof:
        raise _refused("the deflated data set ends before its end mark")
    return inflated, is_cut


@dataclass(slots=True)
class _Frame:
    """What the walk is inside of: a data set, a sequence, or pixel fragments."""

    kind: str  # data set | sequence | fragments
    end: int | None  # None: until its delimiter
    limit: int  # no element in it may reach beyond
    is_implicit: bool


class _Walk:
    """One walk; `is_cut` says that the buffer is only the beginning."""

    def __init__(
        self,
        buffer: memoryview,
        encoding: Encoding,
        wanted: Collection[int],
        is_cut: bool,
        listener: Listener | None = None,
        places: Collection[int] = (),
    ) -> None:
        self._buffer = buffer
        self._wanted = frozenset(wanted)
        self._is_cut = is_cut
        self._listener = listener
        self._is_inflated = encoding.is_deflated
        self._order = ">" if encoding.is_big_endian else "<"
        self._tag = struct.Struct(f"{self._order}HH")
        self._vr = struct.Struct(f"{self._order}2sH")
        self._long = struct.Struct(f"{self._order}L")
        self._at = 0
        self._places = tuple(places)
        self._found = Walked(is_cut=is_cut)
        size = len(buffer)
        self._frames = [_Frame("data set", size, size, encoding.is_implicit)]
        self._padding_at: int | None = None
        self._left = 0  # how many frames were left
        self._notice_encoding()

    def run(self) -> Walked:
        """Walk to the end; what was found."""
        steps = look_at = 0
        self._found.is_implicit = self._frames[0].is_implicit
        while self._frames:
            if steps == look_at:
                if self._is_inflated and steps >= MOST_INFLATED_ELEMENTS:
                    self._found.is_cut = True
                    break
                self._check_count(steps - self._left)
                look_at += _STEPS_BETWEEN_LOOKS
            steps += 1
            if not self._step():
                break
        for tag in self._places:
            self._found.gaps.setdefault(tag, self._at)
        return self._found

    def _check_count(self, count: int) -> None:
        """Refuse what has too many elements and items so far: it was made to cost time."""
        if count > MOST_ELEMENTS:
            raise _refused(f"it has more than {MOST_ELEMENTS:,} elements and items")
        if count > MANY_ELEMENTS and self._at < count * LEAST_BYTES_EACH:
            raise _refused(
                f"its first {MANY_ELEMENTS:,} elements and items and more have less than "
                f"{LEAST_BYTES_EACH} bytes each on average"
            )

    def _step(self) -> bool:
        """Take one element, item or delimiter; False when nothing can follow."""
        frame = self._frames[-1]
        if frame.end is not None and self._at >= frame.end:
            self._leave()
            return True
        if self._at + 8 > frame.limit:
            if self._is_cut or (len(self._frames) == 1 and self._is_padding()):
                return False
            raise _refused(f"it breaks off at byte {self._at}, inside a {frame.kind}")
        group, element = self._tag.unpack_from(self._buffer, self._at)
        tag = group << 16 | element
        if frame.kind == "data set":
            return self._element(frame, tag)
        return self._item(frame, tag)

    def _element(self, frame: _Frame, tag: int) -> bool:
        if tag in DELIMITERS:
            if tag == _ITEM_END and frame.end is None:
                self._at += 8
                self._leave()
                return True
            raise _refused(f"a delimiter {_name(tag)} stands at byte {self._at} where none belongs")
        if tag == 0 and len(self._frames) == 1 and self._is_padding():
            return False
        if self._places and len(self._frames) == 1:
            self._note_gaps(tag)
        vr, length, start = self._header(frame, tag)
        if length == UNDEFINED:
            return self._enter_undefined(frame, tag, vr, start)
        end = start + length
        if length & 1:
            self._found.has_odd_lengths = True
        if end > frame.limit:
            if self._is_cut:
                return False
            left = frame.limit - start
            raise _refused(f"element {_name(tag)} says it has {length} bytes, but {left} are left")
        if vr == b"SQ":
            self._at = start
            self._enter(_Frame("sequence", end, end, frame.is_implicit), tag)
            return True
        if len(self._frames) == 1:
            self._note(tag, start, end)
        if self._listener is not None:
            self._listener.element(tag, vr, self._buffer[start:end])
        self._at = end
        return True

    def _note(self, tag: int, start: int, end: int) -> None:
        """Take down what is asked of a top-level element; the walk still stands before it."""
        if tag in self._wanted:
            # A header's value is short; one that is not must not fill the memory.
            self._found.values[tag] = bytes(self._buffer[start : min(end, start + LONGEST_VALUE)])
        if tag in PIXEL_DATA:
            self._found.native_pixel_bytes = end - start
        if tag in self._places:
            self._found.places[tag] = (self._at, end)

    def _note_gaps(self, tag: int) -> None:
        for place in self._places:
            if place < tag:
                self._found.gaps.setdefault(place, self._at)

    def _header(self, frame: _Frame, tag: int) -> tuple[bytes, int, int]:
        """Give value representation, length and where the value begins (PS3.5 7.1)."""
        at = self._at
        if frame.is_implicit:
            length: int = self._long.unpack_from(self._buffer, at + 4)[0]
            return _vr_of(tag), length, at + 8
        vr: bytes
        short: int
        vr, short = self._vr.unpack_from(self._buffer, at + 4)
        if vr in SHORT or at + 12 > frame.limit:
            return vr, short, at + 8
        length = self._long.unpack_from(self._buffer, at + 8)[0]
        self._found.has_unknown_vrs |= vr not in LONG
        is_long = vr in LONG or (short == 0 and at + 12 + length <= frame.limit)
        return (vr, length, at + 12) if is_long else (vr, short, at + 8)

    def _enter_undefined(self, frame: _Frame, tag: int, vr: bytes, start: int) -> bool:
        self._at = start
        if tag in PIXEL_DATA and len(self._frames) == 1 and vr != b"SQ":
            self._enter(_Frame("fragments", None, frame.limit, frame.is_implicit), tag)
            return True
        if vr not in (b"SQ", b"UN") and not frame.is_implicit:
            raise _refused(f"element {_name(tag)} of undefined length is no sequence")
        # An undefined length of UN holds implicit little endian (PS3.5 6.2.2, note 2).
        is_implicit = frame.is_implicit or vr == b"UN"
        self._enter(_Frame("sequence", None, frame.limit, is_implicit), tag)
        return True

    def _item(self, frame: _Frame, tag: int) -> bool:
        length: int = self._long.unpack_from(self._buffer, self._at + 4)[0]
        if tag == _SEQUENCE_END and frame.end is None:
            self._at += 8
            self._leave()
            return True
        if tag != _ITEM:
            raise _refused(f"{_name(tag)} stands at byte {self._at} where an item belongs")
        start = self._at + 8
        if length == UNDEFINED and frame.kind == "sequence":
            self._at = start
            self._enter(_Frame("data set", None, frame.limit, frame.is_implicit), tag)
            self._notice_encoding()
            return True
        end = start + length
        if length & 1:
            self._found.has_odd_lengths = True
        if end > frame.limit:
            if self._is_cut:
                return False
            raise _refused(f"an item at byte {self._at} is longer than what holds it")
        if frame.kind == "fragments":
            if self._listener is not None:
                self._listener.fragment(self._buffer[start:end])
            self._at = end
            return True
        self._at = start
        self._enter(_Frame("data set", end, end, frame.is_implicit), tag)
        self._notice_encoding()
        return True

    def _enter(self, frame: _Frame, tag: int) -> None:
        # A level of nesting is a sequence and an item in it.
        if len(self._frames) > 2 * DEEPEST:
            raise _refused(f"{_name(tag)} is nested more than {DEEPEST} levels deep")
        self._frames.append(frame)
        if self._listener is not None:
            self._listener.enter(frame.kind, tag)

    def _leave(self) -> None:
        self._left += 1
        self._frames.pop()
        if self._listener is not None and self._frames:
            self._listener.leave()

    def _notice_encoding(self) -> None:
        """Correct the frame's encoding by its first element: some senders mix them."""
        frame, at = self._frames[-1], self._at
        if at + 8 > frame.limit or self._tag.unpack_from(self._buffer, at)[0] == 0xFFFE:
            return
        vr: bytes = self._vr.unpack_from(self._buffer, at + 4)[0]
        if not frame.is_implicit:
            frame.is_implicit = not (vr.isalpha() and vr.isupper()) and self._order == "<"
        elif vr in LONG or vr in SHORT:
            length = self._long.unpack_from(self._buffer, at + 4)[0]
            frame.is_implicit = at + 8 + length <= frame.limit

    def _is_padding(self) -> bool:
        # Counted once: of zeros that a byte follows every step would ask again.
        if self._padding_at is None:
            self._padding_at = len(self._buffer) - _zeros_at_end(self._buffer)
        return self._at >= self._padding_at


def _zeros_at_end(buffer: memoryview) -> int:
    """Count the zero bytes that end a data set, as far as padding may go."""
    end = bytes(buffer[-_MOST_PADDING:])
    return len(end) - len(end.rstrip(b"\0"))


def _vr_of(tag: int) -> bytes:
    """Give the value representation of an implicit element, as far as a walk must know it."""
    return b"SQ" if tag in SEQUENCES else b"UN"


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _refused(why: str) -> CannotUnderstand:
    return CannotUnderstand(
        f"The structure of the data set cannot be walked: {why}.",
        remedy="open the bytes in quarantine with dcmdump, and mend them at the sender",
    )
