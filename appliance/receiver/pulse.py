"""Whether a receiving process is well, told to its parent through memory that both share.

A process that deadlocks still lives, and its socket is the others' too: a C-ECHO tells nothing of
it while the others answer.  So it says since when it has been well: until now, unless nobody
accepts any more or a step that it does for a peer does not end.  Waiting for a peer is no step.
It also says when it said so last: one that says nothing any more is not there at all.
"""

from __future__ import annotations

import math
import mmap
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

WAITING = math.inf
_EVERY_SECONDS = 1.0
# Slower than any disk that a node should run on: a long instance is allowed its time.
SLOWEST_BYTES_A_SECOND = 2_000_000


class Pulse:
    """A time of the monotonic clock, which is one clock for all processes of a machine."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 16)
        self.set(time.monotonic())

    def set(self, well_at: float) -> None:
        """Say that all was well then, and that it is said now."""
        struct.pack_into("dd", self._memory, 0, well_at, time.monotonic())

    def well_at(self) -> float:
        """Read until when all was well."""
        found: float = struct.unpack_from("d", self._memory, 0)[0]
        return found

    def said_at(self) -> float:
        """Read when that was said."""
        found: float = struct.unpack_from("d", self._memory, 8)[0]
        return found


class Step:
    """What a thread does for a peer since a moment; `WAITING` is that it waits for the peer.

    A thread that takes many steps keeps one of these and sets the time itself: later than
    the moment where there is much to write.
    """

    __slots__ = ("since",)

    def __init__(self, since: float = WAITING) -> None:
        self.since = since


class Watch:
    """What the threads of one receiving process are at; it needs no lock, so it cannot be stuck."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._accepted_at = time.monotonic()
        self._steps: dict[Step, None] = {}

    def start(self) -> None:
        """Begin to tell the parent, in a thread that ends with the process."""
        threading.Thread(target=self._tell, name="watch", daemon=True).start()

    def note_turn(self) -> None:
        """Note that somebody accepts, or waits to."""
        self._accepted_at = time.monotonic()

    def follow(self) -> Step:
        """Watch the steps of a thread that waits for its peer just now."""
        step = Step()
        self._steps[step] = None
        return step

    def leave(self, step: Step) -> None:
        """Watch these no longer."""
        self._steps.pop(step, None)

    @contextmanager
    def step(self, bytes_to_write: int = 0) -> Iterator[None]:
        """Watch what is done for a peer meanwhile, and waits for none."""
        step = Step(time.monotonic() + bytes_to_write / SLOWEST_BYTES_A_SECOND)
        self._steps[step] = None
        try:
            yield
        finally:
            self._steps.pop(step, None)

    def well_at(self, now: float) -> float:
        """Say until when all went on."""
        return min(now, self._accepted_at, *[step.since for step in list(self._steps)])

    def _tell(self) -> None:
        while True:
            self._pulse.set(self.well_at(time.monotonic()))
            time.sleep(_EVERY_SECONDS)
