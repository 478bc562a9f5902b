"""What a stream left in a job's OUTPUT, opened without ever following a link.

A stream may leave links, FIFOs, devices and strange names.  Only regular files are
listed and opened, each folder of the way by its own descriptor.  A file is asked for
by a digest of its name: nothing that a browser sends becomes a path, and no name,
which may hold a patient's, stands in an address.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from appliance.disk.trees import opened_folder
from appliance.errors import NotFound

_MOST_FILES = 100_000
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A regular file below OUTPUT; `name` is its path there, `key` the digest of it."""

    name: str
    key: str
    size_bytes: int
    modified_ns: int

    @property
    def shown_name(self) -> str:
        """Its name for people: what is no text is replaced."""
        return os.fsencode(self.name).decode("utf-8", "replace")


def list_files(output: Path) -> list[OutputFile]:
    """List the regular files below a folder, by name; nothing when it is not there."""
    with contextlib.suppress(OSError), opened_folder(output) as top:
        return sorted(_walk(top, "", 0), key=lambda file: file.name)
    return []


def open_file(output: Path, file: OutputFile) -> BinaryIO:
    """Open a listed file; NotFound when it is gone, or is something else by now."""
    *folders, last = file.name.split("/")
    try:
        with contextlib.ExitStack() as held:
            at = held.enter_context(opened_folder(output))
            for name in folders:
                at = held.enter_context(opened_folder(name, at))
            # O_NONBLOCK: a FIFO that took the file's place must not hold the thread.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            found = os.fdopen(os.open(last, flags, dir_fd=at), "rb")
    except OSError as error:
        raise _gone() from error
    if not stat.S_ISREG(os.fstat(found.fileno()).st_mode):
        found.close()
        raise _gone()
    return found


def is_dicom(output: Path, file: OutputFile) -> bool:
    """Say whether a file is a DICOM file by its prefix (PS3.10 7.1)."""
    return _has_prefix(output, file)


def read_text(path: Path, limit: int = 200_000) -> str:
    """Read a small text file of a job folder, no link; "" when there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return ""
        return file.read(limit).decode("utf-8", "replace")


@functools.lru_cache(maxsize=50_000)
def _has_prefix(output: Path, file: OutputFile) -> bool:
    # The file's size and time are part of the key, so a changed file is read again.
    try:
        with open_file(output, file) as opened:
            return opened.read(132)[128:] == b"DICM"
    except (NotFound, OSError):
        return False


def _walk(folder: int, prefix: str, depth: int) -> Iterator[OutputFile]:
    names = sorted(os.listdir(folder))[:_MOST_FILES]
    for name in names:
        with contextlib.suppress(OSError):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            path = prefix + name
            if stat.S_ISREG(found.st_mode):
                yield OutputFile(path, _key(path), found.st_size, found.st_mtime_ns)
            elif stat.S_ISDIR(found.st_mode) and depth < _DEEPEST:
                with opened_folder(name, folder) as inner:
                    yield from _walk(inner, path + "/", depth + 1)


def _key(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _gone() -> NotFound:
    return NotFound("this file of the job is not there any more", remedy="reload the job's page")
