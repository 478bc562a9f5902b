"""What `brookbox send store` shows while it sends: images, bytes, and both per second.

On a terminal one line that is written anew, elsewhere a line each few seconds; all of it
on standard error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from appliance import amounts
from appliance.cli import show
from appliance.router.decoding import WAS_DECODED
from appliance.router.store_scu import SENT, WARNING, Result

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_DRAWINGS = 0.1


class Progress:
    """Counts results; `say` is given a line now and then."""

    def __init__(self, total: int, say: Callable[[str], None], pause_seconds: float) -> None:
        self._total = total
        self._say = say
        self._pause_seconds = pause_seconds
        self._began = self._said_at = time.monotonic()
        self._done = self._images = self._bytes = self._decoded = 0

    def note(self, result: Result) -> None:
        """Count a result, and say how far it is when it is time to."""
        self._done += 1
        if result.kind in (SENT, WARNING):
            self._images += 1
            self._bytes += result.sent_bytes
            self._decoded += WAS_DECODED in result.sentence
        now = time.monotonic()
        if now - self._said_at >= self._pause_seconds:
            self._said_at = now
            self._say(self.line())

    def line(self) -> str:
        """Say how far it is."""
        of_all = f"{self._done} of {self._total} files, {amounts.of_disk(self._bytes)}"
        return f"{of_all}: {self._per_second()}"

    def summary(self) -> str:
        """Say what it came to, as the end of a sentence."""
        seconds = time.monotonic() - self._began
        said = f"{amounts.of_disk(self._bytes)} in {seconds:.1f} s, {self._per_second()}."
        if self._decoded:
            were = "image was" if self._decoded == 1 else "images were"
            said += f" {self._decoded} {were} decoded, since it does not take the transfer syntax."
        return said

    def _per_second(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-6)
        images, megabytes = self._images / seconds, self._bytes / seconds / 1e6
        return f"{images:.1f} images and {megabytes:.1f} MB per second"


@contextlib.contextmanager
def shown(total: int, *, quiet: bool) -> Iterator[Progress]:
    """Lend a progress that shows itself, unless it is to be quiet."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield Progress(total, lambda line: None, _SECONDS_BETWEEN_LINES)
    elif not console.is_terminal:
        yield Progress(total, show.note, _SECONDS_BETWEEN_LINES)
    else:
        with console.status("sending") as status:
            yield Progress(total, status.update, _SECONDS_BETWEEN_DRAWINGS)
