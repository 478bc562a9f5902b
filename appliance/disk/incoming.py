"""What is being kept just now: `incoming/` is exactly the list of what a crash left.

Each process has a folder of its own there and holds a lock on it (flock(2), which
the kernel gives back when the process dies, whatever killed it).  So whoever gets
the lock may take the folder over, and never touches what a living process writes.
A file has its final name once it is whole and synced; before that it is `….part`.
A `….part` that has a second name, in studies/, is whole too: the direct road links
after the last byte, and leaves this name until its row is committed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.disk.sync import plain_errors, sync_file
from appliance.ids import new_id

# Containers run as nobody when the node is root, and read hard links of the stored files.
NOBODY = 65534

_CHUNK = 1 << 20
_LEFT = "left"
PART = ".part"


@dataclass(frozen=True, slots=True)
class Written:
    """A whole, synced file in incoming/; `size_bytes` is the file's, the digest the data set's."""

    path: Path
    size_bytes: int
    dataset_sha256: str
    association_id: str


class Incoming:
    """The folder of this process; made once in it, after any fork."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._folder, self._lock = _own_folder(folder)

    @property
    def folder(self) -> Path:
        """Name it."""
        return self._folder

    @property
    def descriptor(self) -> int:
        """Give it open, for calls that take names relative to a folder."""
        return self._lock

    def write(self, head: bytes, data_set: memoryview, association_id: str) -> Written:
        """Write and sync one file: `head`, then the data set; NoSpace leaves nothing behind."""
        name = new_name(association_id)
        path = self._folder / name
        part = self._folder / (name + PART)
        try:
            with plain_errors("An instance could not be written"):
                digest = write_synced(part, head, data_set)
                part.rename(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        return Written(path, len(head) + len(data_set), digest, association_id)

    def leave(self, path: Path) -> None:
        """Give a whole file up, so that the next adoption finds it; a stillborn one is removed.

        One that was linked into studies/ must not vanish: somebody else may have
        registered that name.  One that was not is unknown to all, and not acknowledged.
        """
        with suppress(OSError):
            if path.stat().st_nlink < 2:
                path.unlink()
                return
            give_up(self._root, path, is_answered=False)

    def close(self) -> None:
        """Let the folder go."""
        with suppress(OSError):
            self._folder.rmdir()
        os.close(self._lock)


def give_up(root: Path, path: Path, *, is_answered: bool = True) -> None:
    """Move a whole file of a living process to where the next adoption finds it.

    One that was not answered keeps its `.part`: adoption looks closer at what may be torn.
    """
    left = root / _LEFT
    with suppress(OSError):
        left.mkdir(mode=0o700, exist_ok=True)
        path.rename(left / (path.name.removesuffix(PART) if is_answered else path.name))


def new_name(association_id: str) -> str:
    """Make a name for a file of an association; names sort by time within one."""
    safe = association_id if re.fullmatch(r"[0-9A-Za-z-]{1,32}", association_id) else ""
    return f"{safe}.{new_id()}"


def write_synced(path: Path, head: bytes, data_set: memoryview) -> str:
    """Write a new file, read-only from the start, and sync it; the data set's SHA-256."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    try:
        os.fchmod(descriptor, 0o440)
        if os.geteuid() == 0:
            os.fchown(descriptor, -1, NOBODY)
        _write_all(descriptor, memoryview(head))
        for start in range(0, len(data_set), _CHUNK):
            with data_set[start : start + _CHUNK] as chunk:
                digest.update(chunk)
                _write_all(descriptor, chunk)
        sync_file(descriptor)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def abandoned(folder: Path) -> Iterator[Path]:
    """Lend, one after the other and locked, the folders whose process is dead.

    Folders of jobs are not among them: their attempt's number guards those.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("job-"):
            continue
        with _claimed(path) as is_mine:
            if is_mine:
                yield path
                if path.name != _LEFT:
                    with suppress(OSError):
                        path.rmdir()


def files_in(folder: Path) -> list[Path]:
    """List the whole files of an abandoned folder; half-written ones are removed."""
    whole = []
    for path in sorted(folder.iterdir()):
        if path.name.endswith(PART) and path.stat().st_nlink < 2:
            path.unlink(missing_ok=True)
        else:
            whole.append(path)
    return whole


def association_of(path: Path) -> str:
    """Name the association that brought a file in incoming/."""
    return path.name.split(".")[0]


def _own_folder(root: Path) -> tuple[Path, int]:
    while True:
        folder = root / f"p-{new_id()}"
        with plain_errors("incoming/ cannot be used"):
            folder.mkdir(mode=0o700)
            if os.geteuid() == 0:  # what is made in it has the group that containers read with
                os.chown(folder, -1, NOBODY)
                folder.chmod(0o2700)
            lock = _lock(folder)
        if lock is not None:
            return folder, lock
        # An adopter saw the folder before it was locked, and took it away.


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    lock = _lock(folder)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder and give the descriptor; None when another holds it, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _write_all(descriptor: int, view: memoryview) -> None:
    while len(view):
        view = view[os.write(descriptor, view) :]
