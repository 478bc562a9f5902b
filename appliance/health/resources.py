"""What the node's processes take: memory as PSS, where shared pages count in shares, and CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_MEASURE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Used:
    """One process; `cpu_percent` is of one core, over half a second."""

    pid: int
    name: str
    pss_bytes: int
    cpu_percent: float


def used_by(top: psutil.Process) -> list[Used]:
    """Measure a process and all below it; those of jobs are named by their own program."""
    family = [top, *top.children(recursive=True)]
    before = [_cpu_seconds(process) for process in family]
    began = time.monotonic()
    time.sleep(_MEASURE_SECONDS)
    passed = time.monotonic() - began
    found = []
    for process, then in zip(family, before, strict=True):
        try:
            pss = process.memory_full_info().pss
            cpu = 100 * (_cpu_seconds(process) - then) / passed
            found.append(Used(process.pid, name_of(process.cmdline()), pss, max(cpu, 0.0)))
        except psutil.Error:
            continue  # it has just ended
    return found


def name_of(words: Sequence[str]) -> str:
    """Name a process by its command line, such as receiver, gearmand or supervisord."""
    for word in words[1:]:
        if word == "supervisor.supervisord":
            return "supervisord"
    if "appliance.cli" in words or any(Path(word).name == "brookbox" for word in words[:2]):
        return words[-1]
    return Path(words[0]).name if words else "?"


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
