"""Write a data set in another uncompressed encoding, each value with the bytes it has.

pydicom reads the elements and knows the value representation of those that were written
without one; no value is made into an object and back, which would lose what is not as
the standard wants it.  From big endian the bytes of each number are turned round.
"""

from __future__ import annotations

import array
import struct
from collections.abc import Iterator, Mapping

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.hooks import raw_element_vr

from appliance.errors import CannotUnderstand

_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
_SHORTEST_LONG = 0x10000
_UNDEFINED = 0xFFFFFFFF
_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)
_ICON_IMAGE_SEQUENCE, _PIXEL_REPRESENTATION = 0x00880200, 0x00280103
# How many bytes stand together as a number, with their code in `array`.
_WIDTHS = {
    "US": "H", "SS": "H", "OW": "H", "AT": "H", "UL": "I", "SL": "I", "FL": "I", "OF": "I",
    "OL": "I", "FD": "Q", "OD": "Q", "SV": "Q", "UV": "Q", "OV": "Q",
}  # fmt: skip

Changed = Mapping[int, tuple[str, bytes]]  # by tag: a value representation and a value


class Reencoder:
    """Encodes the elements of one data set that pydicom has read.

    It is made before any value is asked for: pydicom puts an object in the place of the bytes.
    """

    def __init__(self, ds: Dataset, *, to_implicit: bool, is_big_endian: bool = False) -> None:
        self._ds = ds
        self._found = {int(one.tag): one for one in map(ds.get_item, ds.keys())}
        self._to_implicit = to_implicit
        self._is_big_endian = is_big_endian

    def encoded(self, changed: Changed | None = None) -> Iterator[bytes]:
        """Encode them one after the other.

        Group lengths, which would be wrong, are left out, as the standard wants it (PS3.5 7.2).
        """
        changed = changed or {}
        for tag in sorted({*self._found, *changed}):
            if tag in changed:
                yield element(tag, *changed[tag], is_implicit=self._to_implicit)
            elif tag & 0xFFFF and tag >> 16 not in (0, 2):  # which belong elsewhere
                yield from self._element(tag)

    def leave_out(self, tag: int) -> None:
        """Do without an element."""
        self._found.pop(tag, None)

    def text(self, tag: int) -> str:
        """Give a value as text; "" when there is none."""
        value = getattr(self._found.get(tag), "value", None)
        return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else ""

    def _element(self, tag: int) -> Iterator[bytes]:
        found, to_implicit = self._found[tag], self._to_implicit
        vr = _vr(self._ds, found)
        if vr == "SQ":
            items = self._ds[tag].value
            if tag == _ICON_IMAGE_SEQUENCE and _holds_fragments(items):
                return  # it may be absent, and nobody needs it to be decoded
            encoded = b"".join(map(self._item, items))
            yield head(tag, vr, len(encoded), is_implicit=to_implicit)
            yield encoded
            return
        value = found.value or b""
        if not isinstance(value, bytes) or getattr(found, "length", 0) == _UNDEFINED:
            raise CannotUnderstand(
                f"It cannot be decoded: ({tag >> 16:04X},{tag & 0xFFFF:04X}) holds fragments.",
                remedy="send it to a node that takes its transfer syntax",
            )
        if self._is_big_endian:
            value = turned_round(value, vr)
        yield element(tag, vr, value, is_implicit=to_implicit)

    def _item(self, ds: Dataset) -> bytes:
        item = Reencoder(ds, to_implicit=self._to_implicit, is_big_endian=self._is_big_endian)
        body = b"".join(item.encoded())
        return _ITEM + struct.pack("<L", len(body)) + body


def element(tag: int, vr: str, value: bytes, *, is_implicit: bool) -> bytes:
    """Encode one element; a value of odd length is padded."""
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    return head(tag, vr, len(value), is_implicit=is_implicit) + value


def head(tag: int, vr: str, length: int, *, is_implicit: bool) -> bytes:
    """Encode what stands before a value; one too long for its VR becomes UN (PS3.5 6.2.2)."""
    if is_implicit:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, length)
    if vr not in _LONG and length >= _SHORTEST_LONG:
        vr = "UN"
    if vr in _LONG:
        return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)


def turned_round(value: bytes, vr: str) -> bytes:
    """Make a big endian value little endian."""
    code = _WIDTHS.get(vr)
    if code is None:
        return value
    words = array.array(code)
    if len(value) % words.itemsize:
        raise CannotUnderstand(
            f"It cannot be decoded: a value of {vr} has {len(value)} bytes.",
            remedy="tell the maker of the sender",
        )
    words.frombytes(value)
    words.byteswap()
    return words.tobytes()


def _vr(ds: Dataset, found: object) -> str:
    """Give the value representation: as written, or of the dictionary where it stands nowhere."""
    if not isinstance(found, RawDataElement):
        return str(getattr(found, "VR", "UN"))
    if found.VR is not None:
        return str(found.VR)
    known: dict[str, str] = {}
    raw_element_vr(found, known, ds=ds)
    vr = str(known["VR"])
    if vr == "US or SS":
        return "SS" if _is_signed(ds) else "US"
    return "OW" if " or " in vr else vr


def _is_signed(ds: Dataset) -> bool:
    """Say whether pixels are signed, of this item or of what holds it."""
    holder: Dataset | None = ds
    while holder is not None:
        if _PIXEL_REPRESENTATION in holder:
            return bool(holder[_PIXEL_REPRESENTATION].value)
        sequence = getattr(holder, "parent_seq", None)
        above = getattr(sequence, "parent_dataset", None)
        holder = above() if callable(above) else above
    return False


def _holds_fragments(items: list[Dataset]) -> bool:
    return any(
        getattr(found, "length", 0) == _UNDEFINED and _vr(one, found) != "SQ"
        for one in items
        for found in map(one.get_item, one.keys())
    )
