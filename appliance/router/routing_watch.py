"""The rules that are in force: routing.yaml as it was when it was last good.

A broken edit changes nothing but the problem that the pages show.  The router keeps
the last good text in `history/` too, so that a start with a broken file still has
rules.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from appliance import logs
from appliance.disk.layout import Layout
from appliance.errors import RoutingError
from appliance.ids import new_id
from appliance.router import routing_file
from appliance.router.rules import Routing
from appliance.settings import Settings

_LAST_GOOD = "routing-last-good.yaml"
_SETTLED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class InForce:
    """The rules to apply; `problem` and `remedy` are for a banner, "" when all is well.

    `is_known` is false when the file is broken and no good version of it was ever
    kept: then nothing is routed until somebody mends it.
    """

    routing: Routing
    problem: str = ""
    remedy: str = ""
    is_known: bool = True


class RoutingWatcher:
    """Reads routing.yaml again when it changed; `keeps_last_good` is for the router alone."""

    def __init__(self, settings: Settings, *, keeps_last_good: bool = False) -> None:
        self._settings = settings
        self._keeps = keeps_last_good
        self._seen: tuple[int, ...] = ()
        self._now: InForce | None = None

    def use(self, settings: Settings) -> None:
        """Apply other settings: the file is read again."""
        self._settings = settings
        self._seen = ()

    def current(self) -> InForce:
        """Give the rules in force; cheap as long as the file does not change."""
        seen = _fingerprint(self._settings.routing_file)
        if self._now is None or (seen != self._seen and not _is_being_written(self._seen, seen)):
            self._now = self._read(self._now)
            self._seen = seen
        return self._now

    def _read(self, before: InForce | None) -> InForce:
        try:
            text = routing_file.read_text(self._settings)
            routing = routing_file.parse(text, self._settings)
        except RoutingError as error:
            logs.get().error("routing.yaml is wrong, the last good rules stay", mistakes=str(error))
            return self._last_good(before, error)
        if self._keeps:
            _keep(Layout(self._settings.data_root).history / _LAST_GOOD, text)
        if before is None or before.problem or before.routing.digest != routing.digest:
            logs.get().info(
                "routing.yaml read", rules=len(routing.rules), digest=routing.digest[:12]
            )
        return InForce(routing)

    def _last_good(self, before: InForce | None, error: RoutingError) -> InForce:
        if before is not None and before.is_known:
            good: Routing | None = before.routing
        else:
            good = self._kept()
        if good is None:
            sentence = "routing.yaml has mistakes and no good version is known: nothing is sent."
            return InForce(Routing(), f"{sentence}\n{error}", error.remedy, is_known=False)
        sentence = "routing.yaml has mistakes; its last good version stays in force."
        return InForce(good, f"{sentence}\n{error}", error.remedy)

    def _kept(self) -> Routing | None:
        file = Layout(self._settings.data_root).history / _LAST_GOOD
        try:
            text = file.read_text(encoding="utf-8")
            return routing_file.parse(text, self._settings, str(file))
        except (OSError, UnicodeDecodeError, RoutingError):
            return None


def _fingerprint(file: Path) -> tuple[int, ...]:
    """Give inode, time of change and size; something else when it is not there."""
    try:
        facts = file.stat()
    except OSError as error:
        return (-(error.errno or 1),)
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _is_being_written(before: tuple[int, ...], now: tuple[int, ...]) -> bool:
    """Say whether an editor may be in the middle of writing the very same file.

    One that truncates the file and writes it anew leaves it empty for a moment, and
    an empty file means: no rules.
    """
    if before[:1] != now[:1] or len(now) == 1:
        return False
    return 0 <= time.time() - now[1] / 1e9 < _SETTLED_SECONDS


def _keep(file: Path, text: str) -> None:
    """Keep a good text; a full disk must not stop what is read from being used."""
    part = file.with_name(f".{new_id()}.part")
    try:
        if file.exists() and file.read_text(encoding="utf-8") == text:
            return
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with part.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except (OSError, UnicodeDecodeError) as error:
        logs.get().warning("the last good routing.yaml was not kept", error=str(error))
        part.unlink(missing_ok=True)
