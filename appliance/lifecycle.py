"""How every long-running process starts, stops and dies.

A process asks to be told to stop with its parent (PR_SET_PDEATHSIG), turns
SIGTERM and SIGINT into one flag and a ring of its bell, and SIGHUP into
another.  Signal handlers do nothing else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

_PR_SET_PDEATHSIG = 1


class Lifecycle:
    """Whether to go on.  Made in the main thread, read from any."""

    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        self._stopping = threading.Event()
        self._reload = threading.Event()
        self._wake = wake
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    @property
    def is_stopping(self) -> bool:
        """Say whether the process was asked to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask the process to stop, as SIGTERM does."""
        self._stopping.set()
        if self._wake:
            self._wake()

    def sleep(self, seconds: float) -> bool:
        """Sleep, at most until asked to stop; True when asked."""
        return self._stopping.wait(seconds)

    def wants_reload(self) -> bool:
        """Say once, after each SIGHUP, that the settings are to be read again."""
        if self._reload.is_set():
            self._reload.clear()
            return True
        return False

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop()

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload.set()
        if self._wake:
            self._wake()


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this signal when the parent dies (prctl(2)).

    The parent may be gone already, between its fork and this call: then init has
    adopted us, and the signal is sent at once.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
