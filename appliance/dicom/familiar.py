"""What the images of one presentation context have in common, byte by byte.

Nine in ten elements of a series are the same in each image.  Bytes that were walked once as
whole elements need no second walk: they are compared, which is a hundred times as fast, and
only what differs is walked.  `walker` uses it; nothing is taken from it that does not stand
in the data set at hand.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from appliance.dicom.quick_walk import Undecided, Walk
from appliance.dicom.structure import Encoding, Walked

_LONGEST = 8192
_FEWEST_ELEMENTS = 3  # fewer are walked as fast as they are compared
_USEFUL = 4  # so many images pay for what was learned
_MOST_IN_VAIN = 10


@dataclass(slots=True)
class _Stretch:
    """Elements that follow one another, and what a walk over them finds."""

    written: bytes
    count: int
    others: int  # elements that stood before them and differed
    values: dict[int, bytes]
    odd: int
    is_proven: bool = True  # it was the same in two images


class Familiar:
    """What was learned of the images so far; for one thread."""

    def __init__(self) -> None:
        self._stretches: list[_Stretch] = []
        self._is_implicit = False
        self._before: bytes | None = None  # the image from which to learn with the next one
        self._is_lost = True
        self._used = self._in_vain = self._waits = 0

    def walk_over(self, walk: Walk) -> int:
        """Walk what is known, and what stands between it; where the rest begins.

        Raises what `Walk.run` raises.
        """
        view, values, at = walk.view, walk.found.values, 0
        self._is_lost = walk.is_implicit != self._is_implicit or not self._stretches
        if self._is_lost:
            return at
        for place, known in enumerate(self._stretches):
            others = known.others
            while not (is_same := view.startswith(known.written, at)):
                if walk.is_at_end(at):
                    self._is_lost = True
                    return at
                if others == 0:
                    break
                others -= 1
                at = walk.on(at, at + 1)
            if not is_same:
                at = self._renew(place, walk, at)
                continue
            known.is_proven = True
            at += len(known.written)
            values.update(known.values)
            walk.odd |= known.odd
        return at

    def _renew(self, place: int, walk: Walk, at: int) -> int:
        """Walk other elements in the place of a stretch, as where a series ends; they are kept.

        When that happens twice in a row, one of them is another in each image.  Nothing is
        learned from what is whole: what it holds may have been told by its size.
        """
        known, begin = self._stretches[place], at
        self._is_lost |= not known.is_proven
        values, walk.found.values = walk.found.values, {}
        odd, walk.odd = walk.odd, 0
        for _ in range(known.count):
            if walk.is_at_end(at):
                break
            at = walk.on(at, at + 1)
        else:
            if not walk.is_whole and not walk.is_at_end(at):
                self._stretches[place] = _Stretch(
                    walk.view[begin:at], known.count, known.others, walk.found.values,
                    walk.odd & 1, is_proven=False,
                )  # fmt: skip
        self._is_lost |= walk.is_at_end(at)
        values.update(walk.found.values)
        walk.found.values = values
        walk.odd |= odd
        return at

    def remember(self, walk: Walk, encoding: Encoding) -> None:
        """Learn from an image that was walked, when there is something to learn.

        That takes as long as some walks, so the less it was of use the rarer it is done.
        """
        if self._before is not None:
            self._learn(self._before, walk, encoding)
            self._before, self._used = None, 0
        elif not self._is_lost:
            self._used += 1
        elif self._waits:
            self._waits -= 1
        elif len(walk.view) <= _LONGEST:
            useful = self._used >= _USEFUL or not self._stretches
            self._in_vain = 0 if useful else min(self._in_vain + 1, _MOST_IN_VAIN)
            self._waits = 2**self._in_vain - 1
            self._before = walk.view

    def _learn(self, before: bytes, walk: Walk, encoding: Encoding) -> None:
        self._stretches = []
        try:
            # As if the rest were to come: what depends on the size is not learned then.
            one, other = Walk(before, encoding, False), Walk(walk.view, encoding, False)
        except Undecided:
            return
        if one.is_implicit != other.is_implicit:
            return
        self._is_implicit = one.is_implicit
        same = {before[start:end] for start, end in _elements(one)}
        start = end = count = others = 0
        for at, next in [*_elements(other), (0, 0)]:
            if at == end and next > at and walk.view[at:next] in same:
                end, count = next, count + 1
                continue
            if count >= _FEWEST_ELEMENTS:
                self._stretches.append(_stretch(other, start, end, count, others))
                others = 0
            else:
                others += count
            others, start, end, count = others + 1, next, next, 0


def _elements(walk: Walk) -> list[tuple[int, int]]:
    """Give where elements begin and end, until Pixel Data or where it is not told any more."""
    found, at = [], 0
    while True:
        try:
            end = walk.on(at, at + 1)
        except (Undecided, struct.error):
            break
        if walk.is_at_end(end):
            break
        found.append((at, end))
        at = end
    return found


def _stretch(walk: Walk, start: int, end: int, count: int, others: int) -> _Stretch:
    walk.found, walk.odd, walk.is_in_fragments = Walked(), 0, False
    walk.on(start, end)
    return _Stretch(walk.view[start:end], count, others, walk.found.values, walk.odd & 1)
