"""Part 10 files: the preamble and File Meta that the node writes, and reading any (PS3.10 7.1).

What is received says who wrote it (0002,0016: this node), who sent it (0002,0017)
and to which AE title (0002,0018), with their addresses, so that the catalog can be
made again from the files.  Results of streams carry no sender.  Where the node had to
make a UID itself, it says so as Private Information (0002,0102).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.dicom import marks
from appliance.dicom.header import Buffer, Header, opened
from appliance.dicom.names import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from appliance.dicom.structure import guess_transfer_syntax
from appliance.dicom.walker import read_whole
from appliance.errors import CannotUnderstand

_PREFIX = bytes(128) + b"DICM"
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


@dataclass(frozen=True, slots=True)
class FileMeta:
    """File Meta Information as far as the node uses it; "" where there is none.

    Addresses are those of PS3.10 7.1.1.1, such as dicom:10.1.2.3:104.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae_title: str = ""
    sending_ae_title: str = ""
    receiving_ae_title: str = ""
    source_address: str = ""
    sending_address: str = ""
    receiving_address: str = ""
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version: str = IMPLEMENTATION_VERSION
    private_creator_uid: str = ""
    private_information: str = ""


_ELEMENTS = {
    "sop_class_uid": (0x0002, b"UI"),
    "sop_instance_uid": (0x0003, b"UI"),
    "transfer_syntax_uid": (0x0010, b"UI"),
    "implementation_class_uid": (0x0012, b"UI"),
    "implementation_version": (0x0013, b"SH"),
    "source_ae_title": (0x0016, b"AE"),
    "sending_ae_title": (0x0017, b"AE"),
    "receiving_ae_title": (0x0018, b"AE"),
    "source_address": (0x0026, b"UR"),
    "sending_address": (0x0027, b"UR"),
    "receiving_address": (0x0028, b"UR"),
    "private_creator_uid": (0x0100, b"UI"),
    "private_information": (0x0102, b"OB"),
}


def encode(meta: FileMeta) -> bytes:
    """Write the preamble of zeros, the prefix and File Meta; the data set follows."""
    body = _element(0x0001, b"OB", b"\x00\x01")
    for field, (element, vr) in _ELEMENTS.items():
        if value := getattr(meta, field):
            body += _element(element, vr, value.encode("ascii", "replace"))
    return _PREFIX + _element(0x0000, b"UL", struct.pack("<L", len(body))) + body


class Prefix:
    """What stands before a data set when all but its SOP Instance UID is known: made once."""

    __slots__ = ("_after", "_before", "_length")

    def __init__(self, meta: FileMeta) -> None:
        """Take what `encode` would write; `meta.sop_instance_uid` does not count."""
        # Elements stand in order of their tags: it goes behind (0002,0002).
        self._before = _element(0x0001, b"OB", b"\x00\x01") + _element(
            0x0002, b"UI", meta.sop_class_uid.encode("ascii", "replace")
        )
        self._after = b"".join(
            _element(element, vr, value.encode("ascii", "replace"))
            for field, (element, vr) in _ELEMENTS.items()
            if element > 0x0003 and (value := getattr(meta, field))
        )
        self._length = len(self._before) + len(self._after)

    def of(self, sop_instance_uid: str) -> bytes:
        """Give the preamble, the prefix and File Meta of one instance."""
        mine = _element(0x0003, b"UI", sop_instance_uid.encode("ascii", "replace"))
        length = _element(0x0000, b"UL", struct.pack("<L", self._length + len(mine)))
        return b"".join((_PREFIX, length, self._before, mine, self._after))


def address_of(host: str, port: int) -> str:
    """Write a presentation address of the upper layer protocol (PS3.10 7.1.1.1)."""
    if not host:
        return ""
    return f"dicom:[{host}]:{port}" if ":" in host else f"dicom:{host}:{port}"


def host_of(address: str) -> str:
    """Give the host of a presentation address; "" when it is none."""
    plain = address.removeprefix("dicom:").rpartition(":")[0]
    return plain.removeprefix("[").removesuffix("]") if address.startswith("dicom:") else ""


def read_meta(source: Buffer | Path) -> tuple[FileMeta, int]:
    """Read File Meta, and where the data set begins; a bare data set begins at 0.

    A transfer syntax that is not stated is guessed from the data set's first
    element.  In a file that this node wrote File Meta ends where its group length
    says: the data set of a sender may begin with elements of group 0002 too, which
    tell nothing of this file.  Raises CannotUnderstand when there is no DICOM at all.
    """
    with opened(source) as view:
        at = 132 if bytes(view[128:132]) == b"DICM" else 0
        values: dict[int, bytes] = {}
        end = len(view)
        while _is_meta(view, at) and not (at >= end and _is_ours(values)):
            element, value, at = _next(view, at)
            values[element] = value
            if element == 0 and len(value) == 4:
                end = at + struct.unpack("<L", value)[0]
        start = bytes(view[at : at + 8])
    texts = {
        field: values.get(element, b"").rstrip(b"\0 ").lstrip(b" ").decode("ascii", "replace")
        for field, (element, _) in _ELEMENTS.items()
    }
    if not texts["transfer_syntax_uid"]:
        if len(start) < 8:
            raise _no_dicom("it has no data set")
        texts["transfer_syntax_uid"] = guess_transfer_syntax(start)
    return FileMeta(**texts), at


def read_file(source: Buffer | Path) -> tuple[FileMeta, Header, int]:
    """Read a Part 10 file or a bare data set: File Meta, header, where the data set begins.

    Raises CannotUnderstand and DoesNotMatch as `header.read_header` does.
    """
    with opened(source) as view:
        meta, start = read_meta(view)
        with view[start:] as data_set:
            if len(data_set) < 8:
                raise _no_dicom("it has no data set")
            return meta, header_of(data_set, meta), start


def header_of(data_set: memoryview, meta: FileMeta) -> Header:
    """Read a data set behind its File Meta, which may tell of a mark that nothing else shows."""
    header = read_whole(data_set, meta.transfer_syntax_uid)
    is_ours = meta.private_creator_uid == IMPLEMENTATION_CLASS_UID
    if is_ours and meta.private_information == marks.COERCED:
        return replace(header, marks=(*header.marks, marks.COERCED))
    return header


def as_coerced(meta: FileMeta) -> FileMeta:
    """Have File Meta tell that the node made a UID of this data set."""
    return replace(
        meta,
        private_creator_uid=IMPLEMENTATION_CLASS_UID,
        private_information=marks.COERCED,
    )


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    if vr in _LONG:
        return struct.pack("<HH2sHL", 2, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def _is_meta(view: memoryview, at: int) -> bool:
    return at + 8 <= len(view) and struct.unpack_from("<H", view, at)[0] == 2


def _is_ours(values: dict[int, bytes]) -> bool:
    return values.get(0x0012, b"").rstrip(b"\0") == IMPLEMENTATION_CLASS_UID.encode()


def _next(view: memoryview, at: int) -> tuple[int, bytes, int]:
    """Read one element of group 0002: its number, its value, and where the next begins."""
    _, element, vr, length = struct.unpack_from("<HH2sH", view, at)
    start = at + 8
    if vr in _LONG and at + 12 <= len(view):
        length, start = struct.unpack_from("<L", view, at + 8)[0], at + 12
    elif not vr.isalpha():  # some old writers left File Meta implicit
        length = struct.unpack_from("<L", view, at + 4)[0]
    if start + length > len(view):
        raise _no_dicom(f"element (0002,{element:04X}) is longer than the file")
    return element, bytes(view[start : start + length]), start + length


def _no_dicom(why: str) -> CannotUnderstand:
    return CannotUnderstand(
        f"This is not a DICOM file: {why}.", remedy="look at it with dcmdump, or at its maker's log"
    )
