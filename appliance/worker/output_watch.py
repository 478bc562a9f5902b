"""How much a run has written, against what it may: bytes and entries of its folders.

A file size limit of the kernel stops one file, this stops their sum.  The folders
belong to a program that may be hostile while they are counted: nothing is opened
but folders, no link is followed, names are never decoded, and the count stops at
the limit.  Between two looks a run can write past its limit by what the disk takes
in that time; no file system of a fixed size is mounted, since one left behind by a
killed worker could not be removed with its job.  As a last line a run is stopped when
the volume itself is nearly full: for good when it filled it, else it goes again later.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.amounts import DISK_GB
from appliance.worker.executor import How

_DEEPEST = 64
_ALWAYS_FREE = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Written:
    """What stands below a folder; `too_deep` when its folders are nested past any use."""

    bytes: int = 0
    entries: int = 0
    too_deep: bool = False

    def __add__(self, other: Written) -> Written:
        return Written(
            self.bytes + other.bytes,
            self.entries + other.entries,
            self.too_deep or other.too_deep,
        )


class OutputWatch:
    """The folders that one run may write in, and what they may grow by."""

    def __init__(self, folders: tuple[Path, ...], most_bytes: int, most_entries: int) -> None:
        """Take what is there now as the start: a private copy of the input is not output."""
        self._folders = folders
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        self._before = self._count(_NO_LIMIT)

    def why_stop(self, elsewhere_bytes: int = 0) -> tuple[How, str] | None:
        """Say why the run may not write on, with the key of the limit; None when it may.

        `elsewhere_bytes` is what the run wrote where this watch cannot look.
        """
        before = self._before
        now = self._count(before.entries + self._most_entries)
        wrote = now.bytes - before.bytes
        if now.too_deep:
            return "output", f"It nested folders in its output more than {_DEEPEST} deep"
        # Of the folder above: a process may have removed its own.
        free = _free_bytes(self._folders[0].parent)
        if free + wrote < _ALWAYS_FREE:
            return "unavailable", "The data volume was full while it ran"
        if free < _ALWAYS_FREE:
            return "output", "It filled the data volume: make room on it"
        if wrote + elsewhere_bytes > self._most_bytes:
            gb = self._most_bytes / DISK_GB
            return "output", f"It wrote more than {gb:g} GB of output: raise output_gb in info.json"
        if now.entries - before.entries > self._most_entries:
            most = self._most_entries
            return (
                "output",
                f"It left more than {most} files in its output: raise output_files in info.json",
            )
        return None

    def _count(self, most_entries: int) -> Written:
        total = Written()
        for folder in self._folders:
            total += count_below(folder, most_entries)
        return total


_NO_LIMIT = 1 << 62


def is_full(folder: Path) -> bool:
    """Say whether a run on this volume would be stopped at once; False when it is not there."""
    try:
        return _free_bytes(folder) < _ALWAYS_FREE
    except OSError:
        return False


def _free_bytes(folder: Path) -> int:
    volume = os.statvfs(folder)
    return volume.f_bavail * volume.f_frsize


def count_below(folder: Path, most_entries: int) -> Written:
    """Add up what stands below a folder, until there is more than `most_entries`."""
    total = entries = 0
    for entry in _walk(folder):
        if entry is None:
            return Written(total, entries, too_deep=True)
        entries += 1
        if entries > most_entries:
            break
        if entry.st_nlink == 1 or not stat.S_ISREG(entry.st_mode):
            total += entry.st_blocks * 512
        else:
            total += entry.st_blocks * 512 // entry.st_nlink
    return Written(total, entries)


def _walk(folder: Path) -> Iterator[os.stat_result | None]:
    """Give the status of each entry below; None where folders are nested too deep."""
    top = _open_below(None, os.fspath(folder))
    if top < 0:
        return
    open_folders = [top]
    try:
        names = [_subfolders(top)]
        while names:
            step = next(names[-1], None)
            if step is None:
                names.pop()
                os.close(open_folders.pop())
            elif isinstance(step, os.stat_result):
                yield step
            elif len(names) > _DEEPEST:
                yield None
            elif (below := _open_below(open_folders[-1], step)) >= 0:
                open_folders.append(below)
                names.append(_subfolders(below))
    finally:
        for number in open_folders:
            os.close(number)


def _subfolders(folder: int) -> Iterator[os.stat_result | str]:
    """Give each entry's status, and the name of each that is a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:  # gone since it was listed
                continue
            yield status
            if stat.S_ISDIR(status.st_mode):
                yield entry.name


def _open_below(folder: int | None, name: str) -> int:
    """Open a folder by its path or its name in another; -1 when there is none."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=folder)
    except PermissionError:
        return _open_closed(folder, name)
    except OSError:  # gone, or a link now
        return -1


def _open_closed(folder: int | None, name: str) -> int:
    """Open a folder that its owner, our own uid, closed; -1 when it is another's.

    Through a path descriptor, so that no link put in its place is followed.
    """
    with contextlib.suppress(OSError):
        place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        try:
            os.chmod(f"/proc/self/fd/{place}", 0o700)  # noqa: PTH101
            return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(place)
    return -1
