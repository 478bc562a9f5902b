"""The data set of a file, read a window at a time into buffers that all files share.

An instance of up to a megabyte takes one read; one of any size takes no more memory.
What was lent is overwritten by the next window, and by the next file but one.  A file that is
cut while it is read raises OSError, where a mapped one would end the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from appliance.dicom import part10
from appliance.errors import CannotUnderstand

_WINDOW_BYTES = 1024 * 1024
_ELEMENT = struct.Struct("<HH2sH")
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


class DataSet:
    """An open file whose data set is to be sent; it begins at `start`.

    `size_bytes` is that of the whole file.  One without File Meta has the transfer syntax
    that is said (`bare`).
    """

    __slots__ = (
        "_filled", "_identity", "_view", "file", "size_bytes", "start", "transfer_syntax_uid",
    )  # fmt: skip

    def __init__(self, file: int, buffer: memoryview, bare: str = "") -> None:
        self.file = file
        self._view = buffer
        found = os.fstat(file)
        self._identity = found.st_dev, found.st_ino
        self.size_bytes = found.st_size
        self._filled = min(os.preadv(file, [self._view], 0), self.size_bytes)
        self.transfer_syntax_uid, self.start = bare, 0
        if not bare:
            self.transfer_syntax_uid, self.start = start_of(self._view[: self._filled])

    @property
    def data_set_bytes(self) -> int:
        """Give the length of what follows File Meta."""
        return self.size_bytes - self.start

    def is_still(self, path: Path) -> bool:
        """Say whether that name leads to this file; OSError when it leads nowhere."""
        found = path.stat()
        return self._identity == (found.st_dev, found.st_ino)

    def windows(self) -> Iterator[tuple[memoryview, bool]]:
        """Lend the data set part by part, and say of each whether it is the last one."""
        view, end, size = self._view, self._filled, self.size_bytes
        if end < size:
            end -= (end - self.start) % 2  # an odd fragment may only be the last
        yield view[self.start : end], end >= size
        while end < size:
            count = os.preadv(self.file, [view], end)
            count = min(count, size - end)
            if end + count < size:
                count -= count % 2
            if count <= 0:
                raise OSError(errno.EIO, "the file became shorter while it was read")
            end += count
            yield view[:count], end >= size


class Reader:
    """Opens one file after the other, and the next one already while an answer is awaited."""

    def __init__(self) -> None:
        self._buffer, self._other = (memoryview(bytearray(_WINDOW_BYTES)) for _ in range(2))
        self._ahead: tuple[Path, DataSet] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()

    def read_ahead(self, path: Path) -> None:
        """Open the file whose turn is next; what is wrong with it shows when it is lent."""
        self._forget()
        with contextlib.suppress(OSError, CannotUnderstand):
            self._ahead = path, _open(path, self._other)

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[DataSet]:
        """Lend the data set of a file; OSError, and CannotUnderstand when it is no DICOM file."""
        # While the answer was awaited it may have been erased, or replaced.
        if self._ahead and self._ahead[0] == path and self._ahead[1].is_still(path):
            found, self._ahead = self._ahead[1], None
            self._buffer, self._other = self._other, self._buffer
        else:
            found = _open(path, self._buffer)
        try:
            yield found
        finally:
            os.close(found.file)

    def bare(self, file: int, transfer_syntax_uid: str) -> DataSet:
        """Give an open file that has no File Meta."""
        return DataSet(file, self._buffer, transfer_syntax_uid)

    def _forget(self) -> None:
        if self._ahead:
            os.close(self._ahead[1].file)
            self._ahead = None


def _open(path: Path, buffer: memoryview) -> DataSet:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return DataSet(file, buffer)
    except (OSError, CannotUnderstand):
        os.close(file)
        raise


def start_of(view: memoryview) -> tuple[str, int]:
    """Give the transfer syntax that File Meta states, and where the data set begins.

    File Meta as nearly everybody writes it is read here, since this happens once for each
    instance that is sent; `part10.read_meta` reads whatever else there is.
    """
    if (
        len(view) > 144
        and bytes(view[128:132]) == b"DICM"
        and _ELEMENT.unpack_from(view, 132) == (2, 0, b"UL", 4)
    ):
        end = 144 + int.from_bytes(view[140:144], "little")
        if syntax := _stated(view, end):
            return syntax, end
    meta, start = part10.read_meta(view)
    return meta.transfer_syntax_uid, start


def _stated(view: memoryview, end: int) -> str:
    """Give the transfer syntax when File Meta ends exactly at `end` and states one; "" if not."""
    at = 144
    syntax = ""
    if end + 2 > len(view) or bytes(view[end : end + 2]) == b"\x02\x00":
        return ""
    while at + 12 <= end:
        group, element, vr, length = _ELEMENT.unpack_from(view, at)
        at += 8
        if vr in _LONG:
            length = int.from_bytes(view[at : at + 4], "little")
            at += 4
        if group != 2 or element == 0 or not vr.isalpha():
            return ""
        if element == 0x0010:
            syntax = (
                bytes(view[at : at + length]).rstrip(b"\0 ").lstrip(b" ").decode("ascii", "replace")
            )
        at += length
    return syntax if at == end else ""
