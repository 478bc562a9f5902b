"""Copy a tree of regular files durably: no link is followed, nothing that is there is replaced.

A stream may have written what is copied, and may still write: folders are entered
and files opened by descriptor, so that what is swapped for a link meanwhile is left
out.  What is left out is named, never passed over in silence.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from appliance.disk.sync import sync_path
from appliance.disk.trees import FOLDER_FLAGS, opened_folder

# A pipe that nobody writes to must not hold us up.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PART = ".copy.part"
_DEEPEST = 40
_LONGEST = 1024

# Of a path below the source: "" for a wanted entry, else why it is left out; None leaves
# it out unnamed.
Why = Callable[[str, os.stat_result], str | None]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not copied: its path below the source, and why."""

    path: str
    why: str


@dataclass(slots=True)
class Copied:
    """How many files were copied or linked, and what was left out."""

    files: int = 0
    left_out: list[LeftOut] = field(default_factory=list)


def copy_tree(
    source: Path, target: Path, *, may_link: bool = False, why_not: Why | None = None
) -> Copied:
    """Copy the regular files below a folder to where `target` lacks them, times and modes too.

    A source that is not there gives nothing.  With `may_link` a file of the same volume
    becomes a link: only for files that never change.  Raises OSError when the target
    cannot be written.
    """
    copied = Copied()
    if not source.is_dir():
        return copied
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    is_new = _made(None, str(target))
    with opened_folder(source.resolve()) as here, opened_folder(target.resolve()) as there:
        names = _names(here)
        _Copy(copied, may_link, why_not or _all).folder(here, names, there, "")
        _finish(here, there, is_new)
    return copied


def sync_tree(top: Path) -> None:
    """Sync every file and every folder of a tree, the deepest first.

    Raises DiskError, SyncFailed when the kernel cannot promise that they are kept.
    """
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            sync_path(Path(folder) / name)
        sync_path(Path(folder))


@dataclass(slots=True)
class _Copy:
    """One copy under way; `path` is always the one below the source."""

    copied: Copied
    may_link: bool
    why_not: Why

    def folder(self, here: int, names: list[str], there: int, above: str) -> None:
        for name in names:
            path = f"{above}/{name}" if above else name
            try:
                self._entry(here, there, name, path)
            except _Unreadable as error:
                self._leave_out(path, str(error))
        os.fsync(there)

    def _entry(self, here: int, there: int, name: str, path: str) -> None:
        with _reading():
            facts = os.stat(name, dir_fd=here, follow_symlinks=False)
        why = _unfit(path, facts) or self.why_not(path, facts)
        if why != "":
            self._leave_out(path, why)
        elif stat.S_ISDIR(facts.st_mode):
            self._subfolder(here, there, name, path)
        elif not _exists(there, name):
            self._file(here, there, name)

    def _leave_out(self, path: str, why: str | None) -> None:
        if why:
            self.copied.left_out.append(LeftOut(path, why))

    def _subfolder(self, here: int, there: int, name: str, path: str) -> None:
        with _reading():
            source = os.open(name, FOLDER_FLAGS, dir_fd=here)
        try:
            with _reading():  # it may have been removed since it was opened
                names = _names(source)
            is_new = _made(there, name)
            with opened_folder(name, there) as target:
                self.folder(source, names, target, path)
                _finish(source, target, is_new)
        finally:
            os.close(source)

    def _file(self, here: int, there: int, name: str) -> None:
        if not (self.may_link and _linked(here, there, name)):
            with _reading():
                source = os.open(name, _FILE, dir_fd=here)
            with open(source, "rb") as reader:
                facts = os.fstat(source)
                if not stat.S_ISREG(facts.st_mode):
                    raise _Unreadable("it is not a regular file")
                _write(reader.fileno(), facts, there)
            os.rename(_PART, name, src_dir_fd=there, dst_dir_fd=there)
        self.copied.files += 1


class _Unreadable(Exception):
    """An entry of the source cannot be copied; "" when it was removed meanwhile."""


def _write(source: int, facts: os.stat_result, there: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_PART, dir_fd=there)  # of a copy that was killed
    target = os.open(_PART, _NEW, 0o600, dir_fd=there)
    with open(source, "rb", closefd=False) as reader, open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        # Whoever reads the copy is its owner; programs of another user's rights are not made.
        os.fchmod(target, (facts.st_mode & 0o777) | 0o400)
        os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        os.fsync(target)


def _linked(here: int, there: int, name: str) -> bool:
    try:
        os.link(name, name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    except FileNotFoundError as error:
        raise _Unreadable("") from error
    except OSError:  # another volume, or one without links
        return False
    return True


def _unfit(path: str, facts: os.stat_result) -> str:
    if path.count("/") >= _DEEPEST or len(path) > _LONGEST:
        return "it is nested too deep"
    if stat.S_ISLNK(facts.st_mode):
        return "it is a link"
    if not (stat.S_ISDIR(facts.st_mode) or stat.S_ISREG(facts.st_mode)):
        return "it is not a regular file"
    return ""


def _all(path: str, facts: os.stat_result) -> str:
    return ""


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise _Unreadable("") from error
    except OSError as error:
        raise _Unreadable(f"it cannot be read: {error.strerror}") from error


def _names(folder: int) -> list[str]:
    return sorted(os.listdir(folder))


def _made(folder: int | None, name: str) -> bool:
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def _finish(source: int, target: int, is_new: bool) -> None:
    """Give a folder that we made the mode of its source; its owner may always work in it."""
    if is_new:
        os.fchmod(target, (os.fstat(source).st_mode & 0o777) | 0o700)
        os.fsync(target)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
