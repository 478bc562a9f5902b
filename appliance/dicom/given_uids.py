"""Put UIDs into a data set that lacks them, in its own encoding (PS3.5 7.1).

For `receiver.coerce`: some modalities leave out a UID that everybody needs.  What is
deflated, or cannot be walked, is left alone.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from appliance.dicom.structure import Encoding, encoding_of, look_through

SOP_INSTANCE_UID, STUDY_UID, SERIES_UID = 0x00080018, 0x0020000D, 0x0020000E
FILLABLE = (SOP_INSTANCE_UID, STUDY_UID, SERIES_UID)


def lacking(data_set: memoryview, transfer_syntax_uid: str) -> tuple[int, ...]:
    """Name the tags of `FILLABLE` that are absent or empty; none where none can be put in.

    Raises CannotUnderstand when it cannot be walked.
    """
    encoding = encoding_of(transfer_syntax_uid)
    if encoding.is_deflated:
        return ()
    values = look_through(data_set, encoding, FILLABLE).values
    return tuple(tag for tag in FILLABLE if not values.get(tag, b"").strip(b"\0 "))


def filled(data_set: memoryview, transfer_syntax_uid: str, uids: Mapping[int, str]) -> bytes:
    """Give the data set with these UIDs, each in its place; an empty element gives way.

    The whole is copied, as often as UIDs are put in.  A group length, which would lie then,
    goes (PS3.5 7.2 has retired it).  Raises CannotUnderstand.
    """
    encoding = encoding_of(transfer_syntax_uid)
    whole = bytes(data_set)
    for tag, uid in sorted(uids.items()):
        with memoryview(whole) as view:
            group_length = tag & 0xFFFF0000
            walked = look_through(view, encoding, (), places=(group_length, tag))
            from_, to = walked.places.get(group_length, (0, 0))
            start, end = walked.places.get(tag, (walked.gaps[tag], walked.gaps[tag]))
            made = _element(tag, uid, encoding, is_implicit=walked.is_implicit)
            whole = b"".join((view[:from_], view[to:start], made, view[end:]))
    return whole


def _element(tag: int, uid: str, encoding: Encoding, *, is_implicit: bool) -> bytes:
    value = uid.encode("ascii")
    value += b"\0" * (len(value) % 2)
    order = ">" if encoding.is_big_endian else "<"
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if is_implicit:
        return head + struct.pack(f"{order}L", len(value)) + value
    return head + b"UI" + struct.pack(f"{order}H", len(value)) + value
