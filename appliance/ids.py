"""Names that this node makes: for files, associations, processes and hosts.

None of them holds a received value, so each may stand in a path or a log.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_ENDED = (b"Z", b"X")


def new_id() -> str:
    """Make a name that sorts by time: 11 digits of milliseconds and 12 of chance, in hex."""
    return f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(6)}"


def made_at(id: str) -> datetime:
    """Say when `new_id` made this name; ValueError when it is none."""
    if not re.fullmatch(r"[0-9a-f]{23}", id):
        raise ValueError(f"{id!r} is no id")
    return datetime.fromtimestamp(int(id[:11], 16) / 1000, UTC)


@cache
def _this_boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8]


@dataclass(frozen=True, slots=True)
class ProcessName:
    """One process of one boot of one host; a pid alone is used again.

    `started` counts seconds from the boot: a time of the wall clock would be another
    one after the clock was set, and every process would look dead.
    """

    host: str
    pid: int
    started: float
    boot: str = field(default_factory=_this_boot)

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started:.2f}@{self.boot}"

    def is_alive(self) -> bool:
        """Say whether this very process still runs; another host's is believed alive.

        A process of another host cannot be seen from here: its lease tells.
        """
        if self.host != socket.gethostname():
            return True
        started = _started(self.pid)
        if started is None or self.boot != _this_boot():
            return False
        return abs(started - self.started) < 1.0


def this_process() -> ProcessName:
    """Name the calling process."""
    return name_of(os.getpid())


def name_of(pid: int) -> ProcessName:
    """Name a process that runs here; ProcessLookupError when there is none of this pid."""
    started = _started(pid)
    if started is None:
        raise ProcessLookupError(pid)
    return ProcessName(socket.gethostname(), pid, started)


def parse_process(text: str) -> ProcessName:
    """Read back what `str(ProcessName)` wrote; ValueError when it is something else."""
    host, pid, started = text.rsplit("/", 2)
    seconds, _, boot = started.partition("@")
    return ProcessName(host, int(pid), float(seconds), boot)


def _started(pid: int) -> float | None:
    """Give when a process was started, in seconds from the boot; None when it has ended.

    Fields 3 and 22 of proc(5)'s stat; the name before them may hold anything.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in _ENDED else int(fields[19]) / _TICKS_PER_SECOND
