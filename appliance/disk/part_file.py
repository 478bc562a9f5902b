"""A file of incoming/ that is being written, in as few calls as its bytes allow.

The hot path of reception: names are relative to an open folder, the bytes go from the
receiver's buffer to the kernel in one writev(2) a piece.  It is called `….part` as long
as it is half-written; with a second name in studies/ it is whole (`disk.incoming`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from appliance.disk.incoming import NOBODY, PART

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_MODE = 0o440
_MOST_VIEWS = 1024  # IOV_MAX


class PartFile:
    """One file, open for writing; read-only for everybody else from the start."""

    __slots__ = ("_folder", "descriptor", "name", "size_bytes")

    def __init__(self, folder: int, name: str, *, mend_owner: bool) -> None:
        """Make it in an open folder; OSError.

        `mend_owner` where the folder does not give its files the group and mode that
        containers need (`gives_its_group`).
        """
        self.name = name + PART
        self.size_bytes = 0
        self._folder = folder
        self.descriptor = os.open(self.name, _FLAGS, _MODE, dir_fd=folder)
        if mend_owner:
            _mend(self.descriptor)

    def write(self, views: Sequence[bytes | memoryview]) -> None:
        """Write pieces one behind the other; OSError, and then the file is of no use."""
        for start in range(0, len(views), _MOST_VIEWS):
            some = views[start : start + _MOST_VIEWS]
            wanted = sum(map(len, some))
            written = os.writev(self.descriptor, some)
            self.size_bytes += written
            if written != wanted:
                self._write_rest(b"".join(some)[written:])

    def link(self, name: str, folder: int) -> bool:
        """Give it a second name in an open folder; False when the name is taken.  OSError."""
        try:
            os.link(self.name, name, src_dir_fd=self._folder, dst_dir_fd=folder)
        except FileExistsError:
            return False
        return True

    def become_whole(self) -> str:
        """Take the `.part` off its name, which is returned; whoever finds it then files it."""
        whole = self.name.removesuffix(PART)
        os.rename(self.name, whole, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self.name = whole
        return whole

    def close(self) -> None:
        """Close it; it stays."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)

    def drop(self) -> None:
        """Close it and let it go; never raises."""
        with suppress(OSError):
            self.close()
        with suppress(OSError):
            os.unlink(self.name, dir_fd=self._folder)

    def _write_rest(self, rest: bytes) -> None:
        """Go on after a short write: the next one says why it was one."""
        while rest:
            written = os.write(self.descriptor, rest)
            self.size_bytes += written
            rest = rest[written:]


def gives_its_group(folder: int) -> bool:
    """Try whether a file that is made in a folder has the mode and group it needs; OSError.

    It has not where the file system knows no set-group-ID folders, or with a strict umask.
    """
    trial = PartFile(folder, "trial", mend_owner=False)
    try:
        found = os.fstat(trial.descriptor)
        is_group_right = os.geteuid() != 0 or found.st_gid == NOBODY
        return found.st_mode & 0o777 == _MODE and is_group_right
    finally:
        trial.drop()


def _mend(descriptor: int) -> None:
    os.fchmod(descriptor, _MODE)
    if os.geteuid() == 0:
        os.fchown(descriptor, -1, NOBODY)
