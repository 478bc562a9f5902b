"""Wait for conditions, never for durations."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, seconds: float = 30) -> T:
    """Ask again and again until it is true; AssertionError with `what` when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"after {seconds:g} s still not: {what}"
        time.sleep(0.05)


def rows_follow(incoming: Path) -> bool:
    """Say whether names in incoming/ wait for the rows of what was answered; part files do not."""
    for folder, _, names in os.walk(incoming):
        for path in (Path(folder) / name for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.suffix != ".part" or path.stat().st_nlink > 1:
                    return True
    return False


# Below the ports that the kernel gives to connections, and apart for each of pytest's
# processes: a port stays free until the one it was given to listens on it.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_FIRST, _COUNT = 12_000 + 2_000 * (_WORKER % 10), 2_000
_next = itertools.cycle(random.sample(range(_FIRST, _FIRST + _COUNT), _COUNT))


def free_port() -> int:
    """Give a TCP port that nobody listens on, and that is not given again soon."""
    while True:
        port = next(_next)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


def is_listening(port: int) -> bool:
    """Say whether somebody accepts connections on this port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True
