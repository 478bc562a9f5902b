"""A disk that remembers every write and every flush in their order, so that it can lose power.

A loop device stands on a file that a small FUSE server of ours offers.  What the kernel's file
system writes comes to that server write by write, and each flush of the disk's cache as fsync;
both go to a log before they are answered.  So the content of the disk at any moment of the past
can be made again: everything up to the last flush, and of the writes since then any part, as a
drive may keep them that loses its power.  It cannot be torn in time, as a copy of an image that
is being written to is.

`python -m tests.kit.logged_disk MOUNT_POINT FILE LOG BROKEN` is the server; a test calls
`logged_disk`.
"""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tests.kit import require
from tests.kit.waiting import wait_for

_RECORD = struct.Struct("<cQQ")  # kind, offset, length; a write's bytes follow
_WRITE, _FLUSH = b"W", b"F"
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Record:
    """One write or flush; `ends_at` is where it ends in the log, its bytes begin at `data_at`."""

    is_flush: bool
    offset: int
    length: int
    data_at: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class LoggedDisk:
    """A mounted ext4 on such a disk; `base` is what the disk held before the log began."""

    place: Path
    base: Path
    log: Path
    broken: Path  # while this file is there, the disk takes no write and no flush

    def break_down(self) -> None:
        """Answer every write and flush with an error from now on."""
        self.broken.touch()

    def position(self) -> int:
        """Say how much was logged until now."""
        return self.log.stat().st_size

    def records(self) -> list[Record]:
        """Read the log, but for what is being written to it just now."""
        found: list[Record] = []
        size = self.position()
        with self.log.open("rb") as log:
            at = 0
            while at + _RECORD.size <= size:
                kind, offset, length = _RECORD.unpack(log.read(_RECORD.size))
                start = at + _RECORD.size
                at = start + (length if kind == _WRITE else 0)
                if at > size:
                    break
                found.append(Record(kind == _FLUSH, offset, length, start, at))
                log.seek(at)
        return found


class PowerCuts:
    """Makes the images of moments of the past, which must be asked for in their order."""

    def __init__(self, disk: LoggedDisk, image: Path, chance: random.Random) -> None:
        self._disk = disk
        self._records = disk.records()
        self._flushed = image  # everything up to the last flush before the moment asked for
        self._next = 0
        self._chance = chance
        _copy(disk.base, image)

    def moments(self, count: int) -> list[int]:
        """Choose so many numbers of records before which the power goes, in their order."""
        return sorted(self._chance.sample(range(1, len(self._records) + 1), count))

    def position(self, moment: int) -> int:
        """Say how much was logged at a moment."""
        return self._records[moment - 1].ends_at

    def cut(self, moment: int, image: Path) -> int:
        """Write what the disk holds after a power cut; how many writes since the last flush."""
        last = max((n for n in range(moment) if self._records[n].is_flush), default=-1)
        with self._disk.log.open("rb") as log:
            with self._flushed.open("r+b") as target:
                for one in self._records[self._next : last + 1]:
                    _write(log, one, target)
            self._next = max(self._next, last + 1)
            _copy(self._flushed, image)
            loose = [one for one in self._records[last + 1 : moment] if not one.is_flush]
            with image.open("r+b") as target:
                for one in self._kept(loose):
                    _write(log, one, target)
        return len(loose)

    def _kept(self, loose: Sequence[Record]) -> Iterator[Record]:
        """Choose what of the writes since the last flush reached the disk, one perhaps in part."""
        share = self._chance.random()
        for one in loose:
            if self._chance.random() < share:
                yield one
            elif self._chance.random() < 0.1:
                whole = one.length // _SECTOR
                some = self._chance.randrange(whole + 1) * _SECTOR
                yield Record(False, one.offset, some, one.data_at, one.ends_at)


@contextmanager
def logged_disk(folder: Path, megabytes: int) -> Iterator[LoggedDisk]:
    """Lend such a disk with an empty ext4, mounted; everything is taken away again."""
    require.root()
    require.program("mkfs.ext4", "e2fsprogs")
    require.program("fusermount3", "fuse3")
    if not Path("/dev/fuse").exists():
        require.missing("/dev/fuse", "a kernel with FUSE")
    base, inside, place = folder / "base.img", folder / "fuse", folder / "disk"
    log, broken = folder / "disk.log", folder / "broken"
    for one in (inside, place):
        one.mkdir(parents=True)
    with base.open("wb") as file:
        file.truncate(megabytes * 1_000_000 // 4096 * 4096)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0", base)
    live = folder / "live.img"
    _copy(base, live)
    log.touch()
    with ExitStack() as stack:
        stack.callback(log.unlink)
        stack.callback(live.unlink)
        stack.enter_context(_served(inside, live, log, broken))
        _run("mount", "-o", "loop,nodiscard", inside / "disk", place)
        stack.callback(_unmount, place)
        yield LoggedDisk(place, base, log, broken)


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Lend the file system of an image, its journal replayed as after a power cut."""
    place.mkdir(exist_ok=True)
    _run("mount", "-o", "loop", image, place)
    try:
        yield place
    finally:
        _unmount(place)


@contextmanager
def _served(inside: Path, live: Path, log: Path, broken: Path) -> Iterator[None]:
    words = [sys.executable, "-m", "tests.kit.logged_disk", inside, live, log, broken]
    server = subprocess.Popen(words, cwd=Path(__file__).resolve().parents[2])
    try:
        wait_for((inside / "disk").exists, "the disk is served")
        yield
    finally:
        _unmount(inside)
        try:
            server.wait(30)
        finally:
            server.kill()
            server.wait()


def _unmount(place: Path) -> None:
    if subprocess.run(["umount", place], capture_output=True, timeout=120).returncode != 0:
        _run("umount", "-l", place)


def _run(*words: str | Path) -> None:
    subprocess.run(words, check=True, timeout=120)


def _copy(source: Path, target: Path) -> None:
    _run("cp", "--sparse=always", source, target)


def _write(log: BinaryIO, one: Record, target: BinaryIO) -> None:
    if not one.is_flush:
        log.seek(one.data_at)
        target.seek(one.offset)
        target.write(log.read(one.length))


def _serve(inside: str, live: str, log: str, broken: str) -> None:
    import mfusepy

    descriptor = os.open(live, os.O_RDWR)
    told = os.open(log, os.O_WRONLY | os.O_APPEND)
    size = os.fstat(descriptor).st_size

    class Disk(mfusepy.Operations):  # type: ignore[misc]
        """One file; each write is in the log before it is answered, each flush too."""

        use_ns = True

        def may_fail(self) -> None:
            if os.path.exists(broken):
                raise mfusepy.FuseOSError(errno.EIO)

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            if path == "/disk":
                return {"st_mode": 0o100600, "st_nlink": 1, "st_size": size}
            if path == "/":
                return {"st_mode": 0o40700, "st_nlink": 2}
            raise mfusepy.FuseOSError(errno.ENOENT)

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", "disk"]

        def open(self, path: str, flags: int) -> int:
            return 0

        def read(self, path: str, length: int, offset: int, fh: int) -> bytes:
            return os.pread(descriptor, length, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            self.may_fail()
            os.write(told, _RECORD.pack(_WRITE, offset, len(data)) + data)
            return os.pwrite(descriptor, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            self.may_fail()
            os.write(told, _RECORD.pack(_FLUSH, 0, 0))
            return 0

    mfusepy.FUSE(Disk(), inside, foreground=True, nothreads=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
