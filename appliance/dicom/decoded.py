"""Write a data set without compression, frame by frame, as pydicom and its codecs decode it.

Called in a process that has limits (`router.decoder`), since codecs are not to be trusted
with what they are given.  Only one frame is in memory at a time.  An uncompressed data
set is written anew in the other encoding.  Nothing is ever encoded lossily.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID, AllTransferSyntaxes, ImplicitVRLittleEndian, RLELossless

from appliance.dicom import lossy, reencode
from appliance.dicom.reencode import Reencoder
from appliance.dicom.structure import encoding_of
from appliance.errors import CannotUnderstand

_PIXEL_DATA = 0x7FE00010
_PIXELS = {_PIXEL_DATA: "OW", 0x7FE00008: "OF", 0x7FE00009: "OD"}
_UNDEFINED = 0xFFFFFFFF
_LONGEST_VALUE = _UNDEFINED - 1
_OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
_PIXELS_ELSEWHERE = {f"1.2.840.10008.1.2.4.{n}" for n in (94, 95, 204, 205)}  # JPIP
_MOST_INFLATED_BYTES = 1 << 30
_COPY_BYTES = 1 << 20
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD


def load_decoders() -> None:
    """Load every codec that is installed, so that a process without open files can decode."""
    for syntax in AllTransferSyntaxes:
        with contextlib.suppress(NotImplementedError):
            _ = get_decoder(syntax).is_available


def write(source: BinaryIO, start: int, from_syntax: str, target: BinaryIO, to_syntax: str) -> None:
    """Write the data set that begins at `start` of a file in Explicit or Implicit VR Little Endian.

    `target` can be sought in.  Raises CannotUnderstand, whose sentence says what is wrong,
    whatever the codecs raise, and OSError when there is no room.
    """
    if from_syntax in _PIXELS_ELSEWHERE:
        raise _cannot("its pixels are not in it")
    source.seek(start)
    encoding = encoding_of(from_syntax)
    if encoding.is_deflated:
        source = _inflated(source)
    ds = read_dataset(
        source, encoding.is_implicit, not encoding.is_big_endian, stop_when=_is_pixel_data
    )
    writer = _Writer(ds, source, target, from_syntax, to_syntax)
    if found := writer.pixel_head():
        writer.pixels(*found)
        writer.rest()
    else:
        writer.elements({})


class _Writer:
    """Writes one data set; `source` stands where the elements before the pixels end."""

    def __init__(
        self, ds: Dataset, source: BinaryIO, target: BinaryIO, from_syntax: str, to_syntax: str
    ) -> None:
        self._ds = ds
        self._source = source
        self._target = target
        self._syntax = from_syntax
        self._from = encoding_of(from_syntax)
        self._to_implicit = to_syntax == ImplicitVRLittleEndian
        self._elements = self._reencoder(ds)

    def pixel_head(self) -> tuple[int, str, int] | None:
        """Read tag, value representation and length of the pixels; None when there are none."""
        start = self._source.read(8)
        if len(start) < 8:
            return None
        order = ">" if self._from.is_big_endian else "<"
        group, number = struct.unpack_from(f"{order}HH", start)
        tag = group << 16 | number
        if not start[4:6].isupper():  # implicit, also where the transfer syntax says otherwise
            return tag, _PIXELS[tag], struct.unpack_from("<L", start, 4)[0]
        return tag, start[4:6].decode(), struct.unpack(f"{order}L", self._source.read(4))[0]

    def pixels(self, tag: int, vr: str, length: int) -> None:
        """Write all elements up to the pixels, and these."""
        if length == _UNDEFINED:
            self._decode()
            return
        self.elements({})
        self._put(reencode.head(tag, vr, length + length % 2, is_implicit=self._to_implicit))
        # Pixels of 32 bits stand in words of 16, and yet all their bytes are in big order.
        order = {32: "UL", 64: "UV"}.get(self._bits(), vr) if vr == "OW" else vr
        for some in self._read(length):
            turned = reencode.turned_round(some, order) if self._from.is_big_endian else some
            self._put(turned)
        self._put(b"\0" * (length % 2))

    def elements(self, changed: reencode.Changed) -> None:
        """Write the elements that were read, some of them changed."""
        for one in self._elements.encoded(changed):
            self._put(one)

    def rest(self) -> None:
        """Write what follows the pixels; zeros at the end are padding of some writers."""
        rest = self._source.read()
        if not rest.strip(b"\0"):
            return
        encoding = self._from
        ds = read_dataset(io.BytesIO(rest), encoding.is_implicit, not encoding.is_big_endian)
        self._elements = self._reencoder(ds)
        self.elements({})

    def _reencoder(self, ds: Dataset) -> Reencoder:
        big = self._from.is_big_endian
        return Reencoder(ds, to_implicit=self._to_implicit, is_big_endian=big)

    def _decode(self) -> None:
        decoder = _decoder(self._syntax)
        value_at = self._source.tell()
        encoded_bytes, end = _extent(self._source)
        self._source.seek(value_at)
        mark = self._elements.text(lossy.LOSSY_IMAGE_COMPRESSION)
        is_lossy = lossy.is_lossy(self._syntax, mark)
        options = as_pixel_options(self._ds, as_rgb=is_lossy)
        if self._syntax == RLELossless:
            options["correct_unused_bits"] = False  # they may hold an overlay
        for table in _OFFSET_TABLES:
            self._elements.leave_out(table)
        count, bits = int(options["number_of_frames"]), self._bits()
        written = length = 0
        for number, (frame, found) in enumerate(
            decoder.iter_array(self._source, raw=not is_lossy, validate=True, **options)
        ):
            if number == count:
                raise _cannot(f"it has more frames than the {count} that it says")
            if not written:
                if 8 * frame.dtype.itemsize > bits:
                    raise _cannot(f"its frames have more bits than the {bits} that it says")
                length = count * frame.size * bits // 8
                self._begin(found, length, encoded_bytes)
            plain = frame.astype(f"<{frame.dtype.kind}{bits // 8}", copy=False).tobytes()
            written += len(plain)
            self._put(plain)
        if not written or written != length:
            raise _cannot(f"it has fewer frames than the {count} that it says")
        self._put(b"\0" * (written % 2))
        self._source.seek(end)

    def _begin(self, found: dict[str, str | int], length: int, encoded_bytes: int) -> None:
        """Write what comes before the frames, once the first one told how they are."""
        if length > _LONGEST_VALUE:
            raise _cannot("decoded it is longer than an element can be")
        changed = {0x00280004: ("CS", str(found["photometric_interpretation"]).encode())}
        if int(found["samples_per_pixel"]) > 1:
            changed[0x00280006] = ("US", struct.pack("<H", int(found["planar_configuration"])))
        stated = {tag: self._elements.text(tag) for tag in _LOSSY_TAGS}
        for tag, value in lossy.after_decoding(self._syntax, stated, length, encoded_bytes).items():
            changed[tag] = (_LOSSY_TAGS[tag], value.encode())
        self.elements(changed)
        vr = "OW" if self._bits() > 8 or self._to_implicit else "OB"
        self._put(
            reencode.head(_PIXEL_DATA, vr, length + length % 2, is_implicit=self._to_implicit)
        )

    def _bits(self) -> int:
        return int(self._ds.get("BitsAllocated") or 0)

    def _read(self, length: int) -> Iterator[bytes]:
        while length:
            some = self._source.read(min(length, _COPY_BYTES))
            if not some:
                raise _cannot("it ends in the middle of its pixels")
            length -= len(some)
            yield some

    def _put(self, some: bytes) -> None:
        self._target.write(some)


_LOSSY_TAGS = {lossy.LOSSY_IMAGE_COMPRESSION: "CS", lossy.RATIO: "DS", lossy.METHOD: "CS"}


def _decoder(syntax: str) -> Decoder:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise _cannot(f"there is no decoder for {UID(syntax).name}") from None
    if not decoder.is_encapsulated or not decoder.is_available:
        raise _cannot(f"there is no decoder for {UID(syntax).name}")
    return decoder


def _extent(source: BinaryIO) -> tuple[int, int]:
    """Give how many bytes the fragments have, and where what follows them begins."""
    total, is_first = 0, True
    while True:
        start = source.read(8)
        if len(start) < 8:
            raise _cannot("it ends in the middle of its pixels")
        group, number, length = struct.unpack("<HHL", start)
        tag = group << 16 | number
        if tag == _SEQUENCE_END:
            return total, source.tell()
        if tag != _ITEM or length == _UNDEFINED:
            raise _cannot("its fragments are wrong")
        source.seek(length, io.SEEK_CUR)
        total += 0 if is_first else length  # the first item is the Basic Offset Table
        is_first = False


def _inflated(source: BinaryIO) -> BinaryIO:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    made = io.BytesIO()
    while some := source.read(_COPY_BYTES):
        made.write(inflater.decompress(some, _MOST_INFLATED_BYTES - made.tell() + 1))
        if made.tell() > _MOST_INFLATED_BYTES or inflater.unconsumed_tail:
            raise _cannot("inflated it is too large")
    made.seek(0)
    return made


def _is_pixel_data(tag: int, vr: str | None, length: int) -> bool:
    return tag in _PIXELS


def _cannot(why: str) -> CannotUnderstand:
    return CannotUnderstand(
        f"It cannot be decoded: {why}.",
        remedy="send it to a node that takes its transfer syntax",
    )
