"""Walk what a run left in OUTPUT, which may be hostile, and open its files safely.

Only regular files with a single name, of the run's own user, are opened, beneath
OUTPUT, without following a link or waiting for a FIFO.  Names are bytes that are
never decoded for use and never used as paths; `shown` is for a person's eyes only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from appliance.worker.progress import one_line

_DEEPEST = 16
_LONGEST_NAME = 120
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Output:
    """One entry of OUTPUT: an open file, or None and why it was not opened."""

    shown: str
    file: BinaryIO | None
    why_not: str = ""


def output_files(folder: Path, owners: frozenset[int], most_entries: int) -> Iterator[Output]:
    """Give each entry below a folder that is no folder, in order of name.

    The taker closes the file before it asks for the next one.  After
    `most_entries` one last entry says that there was more.
    """
    try:
        top = os.open(folder, _FOLDER)
    except OSError as error:  # a plain process may have removed it, or made it a link
        yield Output("", None, f"it is no folder any more ({error.strerror})")
        return
    try:
        walk = _Walk(owners, most_entries)
        yield from walk.below(top, b"", 0)
    finally:
        os.close(top)


class _Walk:
    def __init__(self, owners: frozenset[int], most_entries: int) -> None:
        self._owners = owners
        self._left = most_entries

    def below(self, folder: int, path: bytes, depth: int) -> Iterator[Output]:
        for name in _names(folder, self._left + 1):
            if self._left < 0:
                return
            self._left -= 1
            own_path = path + b"/" + name if path else name
            if self._left < 0:
                yield Output("", None, "there is more than output_files allows")
                return
            yield from self._entry(folder, name, own_path, depth)

    def _entry(self, folder: int, name: bytes, path: bytes, depth: int) -> Iterator[Output]:
        shown = _shown(path)
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield self._opened(folder, name, shown)
                return
            if depth == _DEEPEST:
                yield Output(shown, None, f"it is nested more than {_DEEPEST} folders deep")
                return
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except OSError as error:
            is_link = error.errno == errno.ELOOP
            said = "it is a link" if is_link else f"it cannot be opened ({error.strerror})"
            yield Output(shown, None, said)
            return
        try:
            yield from self.below(inner, path, depth + 1)
        finally:
            os.close(inner)

    def _opened(self, folder: int, name: bytes, shown: str) -> Output:
        number = os.open(name, _FILE, dir_fd=folder)
        why_not = _why_not(os.fstat(number), self._owners)
        if why_not:
            os.close(number)
            return Output(shown, None, why_not)
        return Output(shown, os.fdopen(number, "rb"))


def _why_not(status: os.stat_result, owners: frozenset[int]) -> str:
    """Judge what was opened, not what a name showed a moment before."""
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    if status.st_nlink != 1:
        return "it has a second name (a hard link)"
    if status.st_uid not in owners:
        return "it belongs to another user"
    return ""


def _names(folder: int, most: int) -> list[bytes]:
    """List an open folder, as far as is needed, in order of the bytes of the names."""
    names = []
    # scandir of a descriptor gives str; fsencode gives the very bytes back.
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(os.fsencode(entry.name))
            if len(names) > most:
                break
    return sorted(names)


def _shown(path: bytes) -> str:
    text = one_line(path.decode("utf-8", "replace"))
    return text if len(text) <= _LONGEST_NAME else f"…{text[-_LONGEST_NAME:]}"
