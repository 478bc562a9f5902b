"""The header of a data set from its beginning, while the rest still arrives.

The direct receive path and `part10` call it.  It decides what the bytes at hand decide;
whatever is unusual it leaves to `header.read_header`, whose judgement it never departs
from: the same Header, or None.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from appliance.dicom.familiar import Familiar
from appliance.dicom.header import Header, read_header
from appliance.dicom.known_headers import known_header
from appliance.dicom.quick_walk import Undecided, Walk
from appliance.dicom.structure import Encoding, Walked, encoding_of
from appliance.errors import InstanceRefused

__all__ = ["Familiar", "Start", "header_of_start", "read_start", "read_whole"]

# Nearly every header ends within so many bytes.
_WINDOW = 8192
# An element or item takes 8 bytes or more: nothing within so many has as many of them,
# fragments included, as `structure` would refuse.
_MOST_BYTES = 6_000_000


@dataclass(frozen=True, slots=True)
class Start:
    """What the beginning of a data set says of the whole.

    `end` is where the data set ends, if its last element tells the truth.  What was walked
    holds for the whole only if it ends there.  It is -1 before the fragments of Pixel Data,
    which may be anywhere in the rest.
    """

    walked: Walked
    end: int


def read_start(
    first: memoryview, transfer_syntax_uid: str, is_whole: bool, familiar: Familiar | None = None
) -> Start | None:
    """Walk the first contiguous bytes of a data set; None when they do not decide.

    They have to reach into the last element, which is nearly always Pixel Data.  None for
    deflated data sets, and for everything odd.  `familiar` is one presentation context's,
    and makes it faster from the third image on.  Never raises.
    """
    encoding = encoding_of(transfer_syntax_uid)
    if encoding.is_deflated:
        return None
    walked = _walked(first, encoding, is_whole, familiar)
    if walked is None:
        return None
    walk, end = walked
    return Start(walk.found, -1 if walk.is_in_fragments else end)


def header_of_start(start: Start, size_bytes: int, transfer_syntax_uid: str) -> Header | None:
    """Give the header that `read_header` gives of the whole data set of `size_bytes`.

    None when it does not end where it said, or would be refused: `read_header` says why.
    """
    if start.end != size_bytes:
        return None
    try:
        return known_header(start.walked, transfer_syntax_uid)
    except InstanceRefused:
        return None


def read_whole(data_set: memoryview, transfer_syntax_uid: str) -> Header:
    """Do as `read_header` does, quickly where that is possible.

    Raises CannotUnderstand and DoesNotMatch.
    """
    encoding = encoding_of(transfer_syntax_uid)
    walked = None if encoding.is_deflated else _walked(data_set, encoding, True, None)
    if walked is not None:
        walk, end = walked
        if walk.is_in_fragments:
            end = walk.behind_fragments(data_set, end)
        if end == len(data_set):
            return known_header(walk.found, transfer_syntax_uid)
    return read_header(data_set, transfer_syntax_uid)


def _walked(
    first: memoryview, encoding: Encoding, is_whole: bool, familiar: Familiar | None
) -> tuple[Walk, int] | None:
    """Walk as few bytes as do: to take a value out of bytes costs half of what a view costs."""
    for window in (_WINDOW, _MOST_BYTES):
        is_all = len(first) <= window
        try:
            walk = Walk(bytes(first[:window]), encoding, is_whole and is_all)
            end = walk.run(familiar.walk_over(walk) if familiar else 0)
        except (Undecided, struct.error):
            if is_all:
                break
            continue
        if is_all or walk.is_in_fragments or end >= len(first):
            if familiar:
                familiar.remember(walk, encoding)
            return walk, end
        familiar = None
    return None
