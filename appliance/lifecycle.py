"""How every long-running process starts, stops and dies.

A process asks to be told to stop with its parent (PR_SET_PDEATHSIG), turns
SIGTERM and SIGINT into one flag and a ring of its bell, and SIGHUP into
another.  Signal handlers do nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

_PR_SET_PDEATHSIG = 1


class Lifecycle:
    """Whether to go on.  Made in the main thread, read from any.

    No threading.Event: it holds a lock while it is set, and a second signal that came
    just then, such as SIGTERM from a dying parent beside a Ctrl-C, would wait for that
    lock for ever.
    """

    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        self._is_stopping = False
        self._wants_reload = False
        self._asleep = threading.Lock()  # held until asked to stop
        self._asleep.acquire()
        self._wake = wake
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    @property
    def is_stopping(self) -> bool:
        """Say whether the process was asked to stop."""
        return self._is_stopping

    def stop(self) -> None:
        """Ask the process to stop, as SIGTERM does."""
        self._is_stopping = True
        self._end_sleep()
        if self._wake:
            self._wake()

    def sleep(self, seconds: float) -> bool:
        """Sleep, at most until asked to stop; True when asked."""
        if self._asleep.acquire(timeout=max(0.0, seconds)):
            self._end_sleep()  # so that the next sleeper does not sleep either
        return self._is_stopping

    def wants_reload(self) -> bool:
        """Say once, after each SIGHUP, that the settings are to be read again."""
        wants, self._wants_reload = self._wants_reload, False
        return wants

    def _end_sleep(self) -> None:
        with contextlib.suppress(RuntimeError):  # nobody sleeps any more
            self._asleep.release()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop()

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._wants_reload = True
        if self._wake:
            self._wake()


def die_with_parent(number: int = signal.SIGTERM, *, parent: int | None = None) -> None:
    """Have the kernel send this signal when the parent dies (prctl(2)).

    The parent may be gone already, between its fork and this call: then another has
    adopted us, and the signal is sent at once.  Only a `parent` that is named can be
    missed from the first moment on.
    """
    parent = os.getppid() if parent is None else parent
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
