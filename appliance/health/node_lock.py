"""One node for one data_root: a lock that lives as long as `brookbox up` does.

The file keeps the pid, by which `status --resources` finds the node's processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from appliance.errors import NodeError

VARIABLE = "BROOKBOX_DATA_ROOT"
_FILE = "node.lock"


@contextlib.contextmanager
def held(run_folder: Path) -> Iterator[None]:
    """Hold the node's lock; NodeError when another node works in this data_root."""
    descriptor = os.open(run_folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _locked(descriptor):
            raise NodeError(
                f"a node runs already in {run_folder.parent} (pid {_pid_in(run_folder)})",
                remedy="brookbox status, or stop that one first",
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(run_folder: Path) -> psutil.Process | None:
    """Give the `brookbox up` of this data_root; None when the node does not run."""
    try:
        descriptor = os.open(run_folder / _FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _process(_pid_in(run_folder))
    finally:
        os.close(descriptor)
    return None


def leftovers(data_root: Path) -> list[psutil.Process]:
    """List the processes that a node of this data_root left behind when it was killed."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(VARIABLE) == str(data_root) and process.pid != os.getpid():
                found.append(process)
    return found


def wait_for_leftovers(data_root: Path, patience_seconds: float) -> None:
    """Wait until what an earlier node left has ended; NodeError when it does not."""
    deadline = time.monotonic() + patience_seconds
    while left := leftovers(data_root):
        if time.monotonic() > deadline:
            pids = " ".join(str(process.pid) for process in left)
            raise NodeError(
                f"processes of an earlier node still run in {data_root}: {pids}",
                remedy=f"kill -9 {pids}",
            )
        time.sleep(0.2)


def _locked(descriptor: int) -> bool:
    # `holder` takes the lock for a moment to look: that must not stop a start.
    for _ in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            return True
    return False


def _pid_in(run_folder: Path) -> int:
    try:
        return int((run_folder / _FILE).read_text("ascii"))
    except (OSError, ValueError):
        return 0


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except (psutil.NoSuchProcess, ValueError):
        return None
