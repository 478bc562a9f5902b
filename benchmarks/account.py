"""What a tree of processes has used: seconds of CPU, and memory at its highest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE_SHARE, _IDLE_LOOK_SECONDS, _PATIENCE_SECONDS = 0.08, 0.25, 6.0
_PROC = Path("/proc")


def with_children(roots: Iterable[int]) -> set[int]:
    """List processes and all that came of them, those that ended and wait for their parent too."""
    children: dict[int, list[int]] = {}
    for pid, fields in _everybody():
        children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    left = list(roots)
    while left:
        pid = left.pop()
        found.add(pid)
        left += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Add up what processes used, and what their children used that are gone (proc(5))."""
    ticks = 0
    for pid in set(pids):
        with suppress(OSError):
            ticks += sum(map(int, _fields(pid)[11:15]))
    return ticks / _TICKS


def peak_mb(pids: Iterable[int]) -> float:
    """Give the highest resident memory of the largest of them."""
    return max((_peak_kb(pid) for pid in pids), default=0) / 1000 * 1.024


def forget_peaks(pids: Iterable[int]) -> None:
    """Let the highest count from now on."""
    for pid in pids:
        with suppress(OSError):
            (_PROC / str(pid) / "clear_refs").write_text("5")


def wait_until_idle(pids: Callable[[], Iterable[int]]) -> None:
    """Wait until they compute no more than a process that only looks about, at most 6 s."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    before = cpu_seconds(pids())
    while time.monotonic() < deadline:
        time.sleep(_IDLE_LOOK_SECONDS)
        now = cpu_seconds(pids())
        if now - before <= _IDLE_SHARE * _IDLE_LOOK_SECONDS:
            return
        before = now


def _everybody() -> Iterator[tuple[int, list[str]]]:
    for pid in psutil.pids():
        with suppress(OSError):
            yield pid, _fields(pid)


def _fields(pid: int) -> list[str]:
    """Read what the kernel says of a process, from its state on."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _peak_kb(pid: int) -> int:
    with suppress(OSError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
