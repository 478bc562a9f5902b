"""Names that this node makes: for files, associations, processes and hosts.

None of them holds a received value, so each may stand in a path or a log.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass

import psutil


def new_id() -> str:
    """Make a name that sorts by time: 11 digits of milliseconds and 12 of chance, in hex."""
    return f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(6)}"


@dataclass(frozen=True, slots=True)
class ProcessName:
    """One process of one boot of one host; a pid alone is used again."""

    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started:.2f}"

    def is_alive(self) -> bool:
        """Say whether this very process still runs; another host's is believed alive.

        A process of another host cannot be seen from here: its lease tells.
        """
        if self.host != socket.gethostname():
            return True
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def this_process() -> ProcessName:
    """Name the calling process."""
    pid = os.getpid()
    return ProcessName(socket.gethostname(), pid, psutil.Process(pid).create_time())


def parse_process(text: str) -> ProcessName:
    """Read back what `str(ProcessName)` wrote; ValueError when it is something else."""
    host, pid, started = text.rsplit("/", 2)
    return ProcessName(host, int(pid), float(started))
