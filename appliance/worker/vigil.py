"""Keep watch over a run until it is over: time, output, memory, a person, the worker's stop.

One loop for containers and plain processes, so that both are stopped for the same
reasons in the same way: asked with SIGTERM, and ten seconds later not asked any more.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from appliance.worker.executor import How, Watch
from appliance.worker.log_file import LogFile
from appliance.worker.output_watch import OutputWatch

_LOOK_SECONDS = 0.25
_ASK_SECONDS = 0.5
_GRACE_SECONDS = 10.0
_GRACE_AT_STOP_SECONDS = 5.0
_KILL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a run shows."""

    memory_bytes: int | None = None
    elsewhere_bytes: int = 0  # written where the output watch cannot look
    over_memory: bool = False


class Running(Protocol):
    """A run that goes on."""

    def wait(self, seconds: float) -> bool:
        """Wait for its end at most so long; True when it is over."""

    def look(self) -> Look:
        """See what it uses now."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it and everything that it started."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the watch saw: why it stopped the run, if it did, and the most memory used."""

    stopped_for: How | None
    said: str
    peak_memory_bytes: int | None
    is_over: bool = True  # False: it could not be killed


class Vigil:
    """The watch over one run."""

    def __init__(
        self, watch: Watch, output: OutputWatch, log: LogFile, timeout_seconds: float
    ) -> None:
        self._watch = watch
        self._output = output
        self._log = log
        self._until = time.monotonic() + timeout_seconds
        self._peak: int | None = None
        self._ask_at = 0.0
        self._count_at = 0.0

    def keep(self, running: Running) -> Seen:
        """Watch until the run is over, and see to it that it is."""
        self._look(running)  # a short run is seen at least once
        seconds = 0.05
        while not running.wait(seconds):
            seconds = min(seconds * 1.3, _LOOK_SECONDS)
            stop = self._reason(running)
            if stop is not None:
                how, said = stop
                return Seen(how, said, self._peak, self._end(running, how))
        return Seen(None, "", self._peak)

    def _reason(self, running: Running) -> tuple[How, str] | None:
        self._log.write_stale()
        look = self._look(running)
        if look.over_memory:
            return "memory", ""
        if stop := self._why_stop(look):
            return stop
        if time.monotonic() >= self._until:
            return "timeout", ""
        return self._asked()

    def _asked(self) -> tuple[How, str] | None:
        now = time.monotonic()
        if now < self._ask_at:
            return None
        self._ask_at = now + _ASK_SECONDS
        if self._watch.is_cancelled():
            return "cancelled", ""
        return ("stopped", "") if self._watch.is_stopping() else None

    def _look(self, running: Running) -> Look:
        look = running.look()
        if look.memory_bytes is not None:
            self._peak = max(self._peak or 0, look.memory_bytes)
        return look

    def _why_stop(self, look: Look) -> tuple[How, str] | None:
        """Count what it wrote; a count that takes long is made less often."""
        now = time.monotonic()
        if now < self._count_at:
            return None
        stop = self._output.why_stop(look.elsewhere_bytes)
        took = time.monotonic() - now
        self._count_at = now + max(_ASK_SECONDS, 5 * took)
        return stop

    def _end(self, running: Running, how: How) -> bool:
        """Ask, wait, kill; what must stop writing or growing is not asked."""
        if how not in ("output", "memory", "unavailable"):
            running.terminate()
            grace = _GRACE_AT_STOP_SECONDS if how == "stopped" else _GRACE_SECONDS
            until = time.monotonic() + grace
            while time.monotonic() < until:
                if running.wait(_LOOK_SECONDS):
                    return True
                if self._why_stop(self._look(running)):
                    break
        running.kill()
        return running.wait(_KILL_SECONDS)
