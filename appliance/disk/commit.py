"""Make what was just received durable, in whichever of two ways is the faster one now.

`files` syncs each file and its folder by itself.  `together` is one syncfs(2), shared
by all that wait at that moment: it flushes the whole file system, so that it is asked
only when more than one waits, and by default only where no job, log or index writes to
the same one.  What each took lately decides from then on (`choose`, pure).

Every return value counts: when a sync fails all that wait for it are told SyncFailed,
and none of them tries again on the same descriptor (`disk.sync` says why).
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from appliance.disk.folders import Folder
from appliance.disk.layout import Layout
from appliance.disk.sync import SYNC_REMEDY, sync_data, sync_file
from appliance.errors import DiskError, SyncFailed

_WEIGHT = 0.1  # of the newest time in a mean
_TRIAL_EVERY = 500  # answers, and at least so many seconds: a trial may be slow
_TRIAL_SECONDS = 5.0
JOURNALLED = {"ext3", "ext4", "xfs", "tmpfs"}


class Method(StrEnum):
    """How an instance is made durable."""

    FILES = "files"
    TOGETHER = "together"


@dataclass(frozen=True, slots=True)
class Times:
    """What one answer waited lately while others waited too, in seconds; None when never tried."""

    files: float | None = None
    together: float | None = None


def choose(waiting: int, is_alone: bool, times: Times) -> Method:
    """Say how the next one is made durable; `waiting` counts it too.

    `is_alone`: nothing else of the node writes to this file system.
    """
    if waiting < 2:
        return Method.FILES
    if times.files is None or times.together is None:
        return Method.TOGETHER if is_alone else Method.FILES
    return Method.TOGETHER if times.together < times.files else Method.FILES


def in_words(is_alone: bool, times: Times) -> str:
    """Say which way is taken now and why, for `brookbox doctor`."""
    told = {
        Method.FILES: "each file is synced by itself",
        Method.TOGETHER: "associations that wait together share one sync of the file system",
    }[choose(2, is_alone, times)]
    if times.files is not None and times.together is not None:
        why = (
            f"of late one answer waited {times.files * 1000:.1f} ms for its own file, "
            f"{times.together * 1000:.1f} ms for a shared sync"
        )
    elif is_alone:
        why = "nothing but what is received is written to this file system"
    else:
        why = "jobs, logs or the index write to the same file system"
    return f"{told}: {why}"


class Commit:
    """Makes files durable for all threads of one process."""

    def __init__(self, layout: Layout, others: tuple[Path, ...]) -> None:
        """`others` are what else the node writes: folders or files, there or not yet."""
        self._root = os.open(layout.studies, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._is_alone = stands_alone(layout.studies, others)
        self._syncs_both_names = not _journals_names(layout.studies)
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._waiting = 0
        self._times = Times()
        self._untried, self._tried_at = 0, time.monotonic()
        self._begun = self._done = 0  # rounds of a shared sync
        self._failed: dict[int, SyncFailed] = {}

    def file(self, descriptor: int, folder: Folder, incoming: int) -> None:
        """Return once an open file and its name in `folder` are durable; SyncFailed, NoSpace.

        Its name in `incoming` was made before the other one, so that a file system which
        journals names in their order keeps it as well; elsewhere it is synced too.
        """
        started = time.monotonic()
        with self._lock:
            self._waiting += 1
            waiting, method = self._waiting, self._method()
        try:
            if method is Method.TOGETHER:
                self._together()
            else:
                sync_data(descriptor)
                folder.sync()
                if self._syncs_both_names:
                    sync_file(incoming)
        finally:
            with self._lock:
                self._waiting -= 1
                if waiting > 1:
                    self._note(method, time.monotonic() - started)

    def file_alone(self, descriptor: int, folder: int) -> None:
        """Make an open file durable, and the names of an open folder; SyncFailed, NoSpace."""
        sync_data(descriptor)
        sync_file(folder)

    @property
    def says(self) -> str:
        """Say in a sentence which way is taken now, and why."""
        return in_words(self._is_alone, self._times)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._root)

    def _method(self) -> Method:
        """Choose, under the lock; now and then the way that is not taken is tried."""
        method = choose(self._waiting, self._is_alone, self._times)
        if self._waiting < 2:
            return method
        self._untried += 1
        is_due = time.monotonic() - self._tried_at > _TRIAL_SECONDS
        if self._untried < _TRIAL_EVERY or not is_due:
            return method
        self._untried, self._tried_at = 0, time.monotonic()
        return Method.FILES if method is Method.TOGETHER else Method.TOGETHER

    def _note(self, method: Method, seconds: float) -> None:
        files, together = self._times.files, self._times.together
        if method is Method.FILES:
            files = seconds if files is None else files + _WEIGHT * (seconds - files)
        else:
            together = seconds if together is None else together + _WEIGHT * (seconds - together)
        self._times = Times(files, together)

    def _together(self) -> None:
        """Wait for a sync of the file system that began after this call."""
        with self._turn:
            mine = self._begun + 1
            while self._done < mine:
                if self._begun == self._done:  # nobody syncs: this thread does, for all
                    self._begun = mine
                    break
                self._turn.wait()
            else:
                self._raise_failure(mine)
                return
        failure = None
        try:
            sync_file_system(self._root)
        except SyncFailed as error:
            failure = error
        with self._turn:
            self._done = mine
            if failure is not None:
                self._failed[mine] = failure
            self._turn.notify_all()
        if failure is not None:
            raise failure

    def _raise_failure(self, round: int) -> None:
        # Failures are few and final: the volume is not trusted from the first on.
        failure = self._failed.get(round)
        if failure is not None:
            raise SyncFailed(str(failure), remedy=failure.remedy)


def sync_file_system(descriptor: int) -> None:
    """Flush the file system of an open file; SyncFailed also for what was lost before (Linux)."""
    if _syncfs(descriptor) != 0:
        why = os.strerror(ctypes.get_errno())
        raise SyncFailed(f"The file system could not be synced: {why}.", remedy=SYNC_REMEDY)


def stands_alone(folder: Path, others: tuple[Path, ...]) -> bool:
    """Say whether a folder's file system is none of those that others are written to."""
    mine = folder.stat().st_dev
    return all(_device_of(other) != mine for other in others)


def _device_of(path: Path) -> int:
    """Give the file system that a path is on, or will be on once it is made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.stat().st_dev


def _journals_names(folder: Path) -> bool:
    """Say whether the file system keeps the order in which names were made."""
    return file_system_of(folder) in JOURNALLED


def file_system_of(folder: Path) -> str:
    """Name the type of a folder's file system, such as ext4; "" when it is not told."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise DiskError(
            f"/proc/self/mountinfo cannot be read: {error}", remedy="mount /proc"
        ) from error
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split(" ")[2] == number:
            return after.split(" ")[0]
    return ""


_syncfs = ctypes.CDLL(None, use_errno=True).syncfs
_syncfs.argtypes = [ctypes.c_int]
_syncfs.restype = ctypes.c_int
