"""Headers made of one another: an image says nearly all that the image before it said.

`header.header_of` decodes twenty values and judges them, which takes as long as the walk.
What does not tell one image of a series from the next is decoded once here.  A process
keeps what the last few hundred series said; `walker`, which calls it, hands it no long
values.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

from appliance.dicom import marks, text
from appliance.dicom.header import (
    CHARACTER_SET,
    INSTANCE_NUMBER,
    SOP_INSTANCE_UID,
    WANTED,
    Header,
    header_of,
    stripped,
)
from appliance.dicom.names import is_uid
from appliance.dicom.structure import Walked
from appliance.errors import InstanceRefused

_COMMON = tuple(sorted(WANTED - {SOP_INSTANCE_UID, INSTANCE_NUMBER}))
_ANY_UID = b"1"
# Header's fields, in their order, from the one behind the Instance Number on.
_NAMES = [field.name for field in fields(Header)]
_REST = _NAMES[_NAMES.index("instance_number") + 1 :]
_Rest = tuple[Any, ...]  # texts, and the marks at its end


@dataclass(frozen=True, slots=True)
class _Series:
    """What the images of a series share."""

    sop_class_uid: str
    study_uid: str
    series_uid: str
    rest: _Rest
    encodings: list[str]
    least_pixel_bytes: int


def known_header(walked: Walked, transfer_syntax_uid: str) -> Header:
    """Give what `header_of` gives.  Raises CannotUnderstand and DoesNotMatch as it does."""
    value_of = walked.values.get
    try:
        series = _series(
            transfer_syntax_uid,
            (walked.is_implicit, walked.has_odd_lengths, walked.has_unknown_vrs),
            tuple(map(value_of, _COMMON)),
        )
    except InstanceRefused:
        return header_of(walked, transfer_syntax_uid)
    uid = stripped(value_of(SOP_INSTANCE_UID, b""))
    number = text.decode(value_of(INSTANCE_NUMBER, b""), series.encodings)
    pixel_bytes = walked.native_pixel_bytes
    is_unlike = (
        not is_uid(uid)
        or marks.has_leading_zeros(uid)
        or "\N{REPLACEMENT CHARACTER}" in number
        or (pixel_bytes is not None and pixel_bytes < series.least_pixel_bytes)
    )
    if is_unlike:
        return header_of(walked, transfer_syntax_uid)
    return Header(
        series.sop_class_uid,
        uid,
        series.study_uid,
        series.series_uid,
        transfer_syntax_uid,
        number,
        *series.rest,
    )


@lru_cache(maxsize=256)
def _series(
    transfer_syntax_uid: str,
    how_written: tuple[bool, bool, bool],
    common: tuple[bytes | None, ...],
) -> _Series:
    values = {tag: value for tag, value in zip(_COMMON, common, strict=True) if value is not None}
    is_implicit, has_odd_lengths, has_unknown_vrs = how_written
    walked = Walked(
        values={**values, SOP_INSTANCE_UID: _ANY_UID},
        is_implicit=is_implicit,
        has_odd_lengths=has_odd_lengths,
        has_unknown_vrs=has_unknown_vrs,
    )
    header = header_of(walked, transfer_syntax_uid)
    return _Series(
        header.sop_class_uid,
        header.study_uid,
        header.series_uid,
        attrgetter(*_REST)(header),
        text.encodings_of(values.get(CHARACTER_SET, b"")),
        marks.least_pixel_bytes(values, transfer_syntax_uid),
    )
