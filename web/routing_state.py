"""routing.yaml as it stands, read again when it has changed; checked as the router checks it."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import RoutingError
from appliance.router.rules import Routing
from appliance.settings import Settings

_EMPTY_DIGEST = hashlib.sha256(b"").hexdigest()
_CHECKED_AGAIN_SECONDS = 60.0  # a host name may lead elsewhere by then


@dataclass(frozen=True, slots=True)
class RoutingState:
    """The file's text and what it says; `routing` is None when it is broken."""

    file: Path
    is_there: bool
    text: str
    routing: Routing | None
    mistakes: tuple[str, ...]
    remedy: str = ""


class RoutingReader:
    """Keeps the last reading, since checking resolves every destination's name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._signature: tuple[object, ...] = ()
        self._read_at = 0.0
        self._state: RoutingState | None = None

    def current(self, settings: Settings) -> RoutingState:
        """Give the file as it is now."""
        signature = _signature(settings.routing_file)
        with self._lock:
            age = time.monotonic() - self._read_at
            is_fresh = signature == self._signature and age < _CHECKED_AGAIN_SECONDS
            if self._state is None or not is_fresh:
                self._state = read(settings)
                self._signature, self._read_at = signature, time.monotonic()
            return self._state


def read(settings: Settings) -> RoutingState:
    """Read and check the file; never raises for what stands in it."""
    file, text = settings.routing_file, ""
    if not file.exists():
        return RoutingState(file, False, "", Routing(digest=_EMPTY_DIGEST), ())
    # Imported when used: it brings pydicom's dictionary, 40 MB that not every node needs.
    from appliance.router import routing_file

    try:
        text = routing_file.read_text(settings)
        routing = routing_file.parse(text, settings, file.name)
    except RoutingError as error:
        mistakes = tuple(str(error).splitlines())
        return RoutingState(file, True, text, None, mistakes, error.remedy)
    return RoutingState(file, True, text, routing, ())


def _signature(file: Path) -> tuple[object, ...]:
    try:
        found = file.stat()
    except OSError:
        return (str(file),)
    return (str(file), found.st_mtime_ns, found.st_ino, found.st_size)
