"""Walk the beginning of a data set, quickly, as far as its bytes decide what there is.

`walker` calls it.  For all that ordinary equipment sends (explicit and implicit VR, little
and big endian, sequences of either kind) it finds what `structure.look_through` finds; of
the rest it says that it cannot tell.  Speed is all that it is for: where there is time,
`look_through` does the same and says why it refuses.
"""

from __future__ import annotations

import struct

from appliance.dicom import structure
from appliance.dicom.header import WANTED
from appliance.dicom.structure import UNDEFINED, Encoding, Walked

_MOST_FRAGMENTS = 100_000
_LONGEST_VALUE = 1024
_DEEPEST = 16  # of structure.DEEPEST: for each a method calls itself


class Undecided(Exception):
    """These bytes do not decide; only `walker` hears of it."""


class _Order:
    """How a byte order writes; a tag or a VR is taken as the number that its bytes make.

    In little endian a tag's group is so its lower half: to swap the halves of each would
    cost a tenth of the walk.
    """

    def __init__(self, mark: str) -> None:
        self.explicit = struct.Struct(f"{mark}LHH")  # tag, VR, 16-bit length
        self.implicit = struct.Struct(f"{mark}LL")  # tag, 32-bit length
        self.long = struct.Struct(f"{mark}L")
        self._mark = mark
        self.wanted = {self._tag(tag): tag for tag in WANTED}
        self.pixel_data = frozenset(map(self._tag, structure.PIXEL_DATA))
        self.sequences = frozenset(map(self._tag, structure.SEQUENCES))
        self.item, self.item_end, self.sequence_end = map(self._tag, structure.DELIMITERS)
        self.delimiters = frozenset([self.item, self.item_end, self.sequence_end])
        # What the data set itself must be looked at for; an element of tag 0 may be padding.
        self.watched = frozenset([*self.wanted, *self.pixel_data, *self.delimiters, 0])
        self.short_vrs = frozenset(map(self._vr, structure.SHORT))
        self.long_vrs = frozenset(map(self._vr, structure.LONG))
        self.sq, self.un = self._vr(b"SQ"), self._vr(b"UN")
        # What the loops use, ready to be unpacked: they often walk over one element only.
        self.of_explicit = (
            self.explicit.unpack_from, self.long.unpack_from, self.short_vrs, self.long_vrs,
            self.sq, self.watched, self.wanted,
        )  # fmt: skip
        self.of_implicit = (
            self.implicit.unpack_from, self.sequences, self.sq, self.un, self.watched,
            self.wanted,
        )  # fmt: skip

    def group(self, tag: int) -> int:
        """Give the group of a tag."""
        return tag >> 16 if self._mark == ">" else tag & 0xFFFF

    def _tag(self, tag: int) -> int:
        halves = struct.pack(f"{self._mark}HH", tag >> 16, tag & 0xFFFF)
        number: int = self.long.unpack(halves)[0]
        return number

    def _vr(self, vr: bytes) -> int:
        number: int = struct.unpack(f"{self._mark}H", vr)[0]
        return number


_LITTLE, _BIG = _Order("<"), _Order(">")


class Walk:
    """One walk over the beginning of a data set; `is_whole` says that it is all of it.

    `odd` has its lowest bit set once any length has it.
    """

    def __init__(self, view: bytes, encoding: Encoding, is_whole: bool) -> None:
        self.view = view
        self.is_whole = is_whole
        self._order = _BIG if encoding.is_big_endian else _LITTLE
        self.odd = 0
        self.is_in_fragments = False
        self.is_implicit = self._noticed(0, len(view), encoding.is_implicit)
        self.found = Walked(is_implicit=self.is_implicit)

    def run(self, at: int = 0) -> int:
        """Walk from `at` to the last element; where that ends, or where its fragments begin.

        Raises Undecided, or struct.error where the bytes break off in the head of an element.
        """
        end = self.on(at, len(self.view))
        if self.is_whole and not self.is_in_fragments and end != len(self.view):
            raise Undecided
        self.found.has_odd_lengths = bool(self.odd & 1)
        return end

    def on(self, at: int, until: int) -> int:
        """Walk the elements that begin from `at` on and before `until`; where the next begins.

        Raises what `run` raises.
        """
        if self.is_in_fragments:
            return at
        return self._implicit(at, until) if self.is_implicit else self._explicit(at, until)

    def is_at_end(self, at: int) -> bool:
        """Say whether no element may begin at `at`, or Pixel Data stood before it."""
        is_behind = self.is_in_fragments or self.found.native_pixel_bytes is not None
        return is_behind or at >= len(self.view)

    def behind_fragments(self, data_set: memoryview, at: int) -> int:
        """Walk the fragments that begin at `at` (PS3.5 A.4); where the next element begins.

        -1 where that cannot be told.
        """
        order, odd = self._order, self.odd
        for _ in range(_MOST_FRAGMENTS):
            if at + 8 > len(data_set):
                break
            tag, length = order.implicit.unpack_from(data_set, at)
            at += 8
            if tag == order.sequence_end:
                self.found.has_odd_lengths = bool(odd & 1)
                return at
            if tag != order.item:
                break
            odd |= length
            at += length
        return -1

    def _explicit(self, at: int, until: int) -> int:
        """Do as `on`, over the elements of the data set itself.

        The hot loop: of each image a hundred elements pass here, hence its length.
        """
        head, long, short_vrs, long_vrs, sq, watched, wanted = self._order.of_explicit
        view, values, odd = self.view, self.found.values, 0
        size = len(view)
        while at < until:
            tag, vr, length = head(view, at)
            if vr in short_vrs:
                start = at + 8
            elif vr in long_vrs:
                start = at + 12
                (length,) = long(view, at + 8)
                if vr == sq or length == UNDEFINED:
                    at = self._sequence_at(tag, start, length, vr)
                    if self.is_in_fragments:
                        break
                    continue
            else:
                raise Undecided
            odd |= length
            at = start + length
            if tag in watched:
                if tag in wanted and at <= size and length <= _LONGEST_VALUE:
                    values[wanted[tag]] = view[start:at]
                elif tag in self._order.pixel_data:
                    self.found.native_pixel_bytes = length
                else:
                    raise Undecided
        self.odd |= odd
        return at

    def _implicit(self, at: int, until: int) -> int:
        """Do as `_explicit` where elements are without their value representations."""
        head, sequences, sq, un, watched, wanted = self._order.of_implicit
        view, values, odd = self.view, self.found.values, 0
        size = len(view)
        while at < until:
            tag, length = head(view, at)
            start = at + 8
            if tag in sequences or length == UNDEFINED:
                at = self._sequence_at(tag, start, length, sq if tag in sequences else un)
                if self.is_in_fragments:
                    break
                continue
            odd |= length
            at = start + length
            if tag in watched:
                if tag in wanted and at <= size and length <= _LONGEST_VALUE:
                    values[wanted[tag]] = view[start:at]
                elif tag in self._order.pixel_data:
                    self.found.native_pixel_bytes = length
                else:
                    raise Undecided
        self.odd |= odd
        return at

    def _sequence_at(self, tag: int, at: int, length: int, vr: int) -> int:
        """Walk what stands in an element of the data set itself; where the next one begins."""
        order = self._order
        if length == UNDEFINED and tag in order.pixel_data and vr != order.sq:
            self.is_in_fragments = True
            return at
        if tag in order.delimiters or tag == 0:
            raise Undecided
        return self._sequence(at, length, len(self.view), vr, self.is_implicit, 1)

    def _sequence(
        self, at: int, length: int, limit: int, vr: int, is_implicit: bool, depth: int
    ) -> int:
        """Walk a sequence whose first item stands at `at`; no item may reach beyond `limit`."""
        order, is_open = self._order, length == UNDEFINED
        if is_open:
            # An undefined length of UN holds implicit VR (PS3.5 6.2.2, note 2).
            is_implicit = is_implicit or vr == order.un
            if not is_implicit and vr != order.sq:
                raise Undecided
        else:
            self.odd |= length
            limit = self._within(at + length, limit)
        if depth > _DEEPEST:
            raise Undecided
        while is_open or at < limit:
            tag, length = order.implicit.unpack_from(self.view, at)
            at = self._within(at + 8, limit)
            if tag == order.sequence_end and is_open:
                return at
            if tag != order.item:
                raise Undecided
            if length == UNDEFINED:
                at = self._item(at, limit, True, is_implicit, depth)
            else:
                self.odd |= length
                at = self._item(at, self._within(at + length, limit), False, is_implicit, depth)
        return at

    def _item(self, at: int, limit: int, is_open: bool, is_implicit: bool, depth: int) -> int:
        """Walk the elements of an item, which end at `limit` or before a delimiter."""
        view, order, odd = self.view, self._order, 0
        is_implicit = self._noticed(at, limit, is_implicit)
        while is_open or at < limit:
            tag, vr, length = order.explicit.unpack_from(view, at)
            start = self._within(at + 8, limit)
            if tag in order.delimiters:
                if tag == order.item_end and is_open:
                    at = start
                    break
                raise Undecided
            if is_implicit:
                (length,) = order.long.unpack_from(view, at + 4)
                vr = order.sq if tag in order.sequences else order.un
            elif vr in order.long_vrs:
                start = self._within(at + 12, limit)
                (length,) = order.long.unpack_from(view, at + 8)
            elif vr not in order.short_vrs:
                raise Undecided
            if vr == order.sq or length == UNDEFINED:
                at = self._sequence(start, length, limit, vr, is_implicit, depth + 1)
            else:
                odd |= length
                at = self._within(start + length, limit)
        self.odd |= odd
        return at

    def _within(self, end: int, limit: int) -> int:
        if end > limit:
            raise Undecided
        return end

    def _noticed(self, at: int, limit: int, is_implicit: bool) -> bool:
        """Say whether the first element at `at` is implicit: some senders mix encodings."""
        if at + 8 > limit:
            return is_implicit
        order = self._order
        tag, vr, _ = order.explicit.unpack_from(self.view, at)
        if order.group(tag) == 0xFFFE:
            return is_implicit
        is_known = vr in order.short_vrs or vr in order.long_vrs
        if not is_implicit:
            letters = self.view[at + 4 : at + 6]
            is_written = is_known or (letters.isalpha() and letters.isupper())
            return not is_written and order is _LITTLE
        if not is_known:
            return True
        if limit == len(self.view) and not self.is_whole:
            raise Undecided  # it depends on where the data set ends
        (length,) = order.long.unpack_from(self.view, at + 4)
        fits: bool = at + 8 + length <= limit
        return fits
