"""Whether a receiving process is well, told to its parent through memory that both share.

A process that deadlocks still lives, and its socket is the others' too: a C-ECHO tells nothing of
it while the others answer.  So it says since when it has been well: until now, unless its accept
loop stands still or a step that it does for a peer does not end.  Waiting for a peer is no step.
Where not even that can be said, the time stands still as well.
"""

from __future__ import annotations

import itertools
import mmap
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_EVERY_SECONDS = 1.0
# Slower than any disk that a node should run on: a long instance is allowed its time.
_SLOWEST_BYTES_A_SECOND = 2_000_000


class Pulse:
    """A time of the monotonic clock, which is one clock for all processes of a machine."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)
        self.set(time.monotonic())

    def set(self, well_at: float) -> None:
        """Say that all was well then."""
        struct.pack_into("d", self._memory, 0, well_at)

    def well_at(self) -> float:
        """Read what was said last."""
        found: float = struct.unpack_from("d", self._memory, 0)[0]
        return found


class Watch:
    """What the threads of one receiving process are at; it needs no lock, so it cannot be stuck."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._accepted_at = time.monotonic()
        self._steps: dict[int, float] = {}
        self._numbers = itertools.count()

    def start(self) -> None:
        """Begin to tell the parent, in a thread that ends with the process."""
        threading.Thread(target=self._tell, name="watch", daemon=True).start()

    def note_turn(self) -> None:
        """Note that the accept loop goes round."""
        self._accepted_at = time.monotonic()

    @contextmanager
    def step(self, bytes_to_write: int = 0) -> Iterator[None]:
        """Watch what is done for a peer meanwhile, and waits for none."""
        number = next(self._numbers)
        self._steps[number] = time.monotonic() + bytes_to_write / _SLOWEST_BYTES_A_SECOND
        try:
            yield
        finally:
            del self._steps[number]

    def well_at(self, now: float) -> float:
        """Say until when all went on."""
        return min(now, self._accepted_at, *list(self._steps.values()))

    def _tell(self) -> None:
        while True:
            self._pulse.set(self.well_at(time.monotonic()))
            time.sleep(_EVERY_SECONDS)
