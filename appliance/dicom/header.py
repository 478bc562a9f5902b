"""What the node needs to know of a data set: its UIDs, and what the catalog shows.

`read_header` reads a bare data set, `part10.read_file` a file.  Both walk the whole
structure, and accept what real and old equipment sends as long as the UIDs can be
read: an absent Patient ID, leading zeros in a UID, odd lengths, short pixel data.
That is marked (`dicom.marks`).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.dicom import marks, text
from appliance.dicom.names import is_uid
from appliance.dicom.structure import Walked, encoding_of, look_through
from appliance.errors import CannotUnderstand, DoesNotMatch

Buffer = bytes | bytearray | memoryview | mmap.mmap


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of one instance, as text in Unicode; "" where the data set has none."""

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str
    instance_number: str = ""
    patient_id: str = ""
    patient_name: str = ""
    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    study_time: str = ""
    study_id: str = ""
    accession_number: str = ""
    study_description: str = ""
    referring_physician: str = ""
    modality: str = ""
    series_number: str = ""
    series_description: str = ""
    body_part: str = ""
    marks: tuple[str, ...] = ()  # codes of dicom.marks


CHARACTER_SET, SOP_INSTANCE_UID, INSTANCE_NUMBER = 0x00080005, 0x00080018, 0x00200013
_UIDS = {
    "sop_class_uid": (0x00080016, "SOP Class UID"),
    "sop_instance_uid": (SOP_INSTANCE_UID, "SOP Instance UID"),
    "study_uid": (0x0020000D, "Study Instance UID"),
    "series_uid": (0x0020000E, "Series Instance UID"),
}
_TEXTS = {
    "instance_number": INSTANCE_NUMBER,
    "patient_id": 0x00100020,
    "patient_name": 0x00100010,
    "birth_date": 0x00100030,
    "sex": 0x00100040,
    "study_date": 0x00080020,
    "study_time": 0x00080030,
    "study_id": 0x00200010,
    "accession_number": 0x00080050,
    "study_description": 0x00081030,
    "referring_physician": 0x00080090,
    "modality": 0x00080060,
    "series_number": 0x00200011,
    "series_description": 0x0008103E,
    "body_part": 0x00180015,
}
WANTED = marks.PIXEL_TAGS.union(
    [CHARACTER_SET, *_TEXTS.values(), *(tag for tag, _ in _UIDS.values())]
)


def read_header(
    data_set: Buffer | Path, transfer_syntax_uid: str, given: Mapping[int, str] | None = None
) -> Header:
    """Read a bare data set, and check its structure from the first byte to the last.

    `given` are UIDs, by tag, that stand in for absent ones.

    Raises CannotUnderstand when it cannot be walked or a UID is none, DoesNotMatch
    when a UID is absent; the sentence names the tag.
    """
    encoding = encoding_of(transfer_syntax_uid)
    with opened(data_set) as buffer:
        walked = look_through(buffer, encoding, WANTED)
    return header_of(walked, transfer_syntax_uid, given)


def header_of(
    walked: Walked, transfer_syntax_uid: str, given: Mapping[int, str] | None = None
) -> Header:
    """Make the header of what a walk to the end of a data set found.

    Raises CannotUnderstand and DoesNotMatch as `read_header` does.
    """
    value_of = walked.values.get
    uids = {
        field: _uid(value_of(tag, b""), tag, name, given) for field, (tag, name) in _UIDS.items()
    }
    encodings = text.encodings_of(value_of(CHARACTER_SET, b""))
    texts = {field: text.decode(value_of(tag, b""), encodings) for field, tag in _TEXTS.items()}
    found = marks.marks_of(
        walked,
        transfer_syntax_uid,
        is_implicit_agreed=encoding_of(transfer_syntax_uid).is_implicit,
        uids=uids.values(),
        patient_id=texts["patient_id"],
        texts=texts.values(),
    )
    return Header(**uids, transfer_syntax_uid=transfer_syntax_uid, **texts, marks=found)


@contextmanager
def opened(source: Buffer | Path) -> Iterator[memoryview]:
    """Lend the bytes of a buffer or a file; a file is mapped, not read into memory."""
    if not isinstance(source, Path):
        with memoryview(source) as view:
            yield view
        return
    with source.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield memoryview(b"")
            return
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            yield view


def _uid(value: bytes, tag: int, name: str, given: Mapping[int, str] | None) -> str:
    where = f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
    uid = stripped(value) or (given or {}).get(tag, "")
    if not uid:
        raise DoesNotMatch(
            f"{where} is absent or empty.", remedy="have the sender fill it, and send again"
        )
    if not is_uid(uid):
        raise CannotUnderstand(
            f"{where} is not a UID: digits and dots, at most 64 (PS3.5 9.1).",
            remedy="have the sender give it a valid UID, and send again",
        )
    return uid


def stripped(value: bytes) -> str:
    """Give the text of a UID's value without what pads it."""
    return value.rstrip(b"\0 ").lstrip(b" ").decode("ascii", "replace")
