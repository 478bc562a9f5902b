"""Who of the node ran when somebody last looked: kept in `run/`, so that a death is seen.

The housekeeper looks, also for the one before it that was killed.  `brookbox up` takes
the file away when it has stopped the node in order: one that is left of another node
tells that this one was killed, or that the machine went down.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.health.stopped import Part

_FILE = "who-runs.json"


@dataclass(frozen=True, slots=True)
class Ran:
    """One process: its role, and since when it is missing ("" while it runs), ISO 8601."""

    role: str
    pid: int
    started: int
    missing_since: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """Who ran; `node` is the `brookbox up` that they belonged to, `at` is when, ISO 8601."""

    node: str = ""
    at: str = ""
    ran: tuple[Ran, ...] = field(default_factory=tuple)

    def then(self, parts: list[Part], now: datetime) -> Look:
        """Give the next look of the same node: who runs now, and who is missing."""
        running = {(one.pid, one.started): Ran(one.role, one.pid, one.started) for one in parts}
        missing = tuple(
            replace(one, missing_since=one.missing_since or now.isoformat())
            for one in self.ran
            if (one.pid, one.started) not in running
        )
        return Look(self.node, now.isoformat(), (*running.values(), *missing))

    def without(self, told: list[Ran]) -> Look:
        """Forget who was missing and has been told of."""
        return replace(self, ran=tuple(one for one in self.ran if one not in told))


def read(run_folder: Path) -> Look:
    """Give the last look; an empty one when there was none."""
    try:
        facts = json.loads((run_folder / _FILE).read_text("utf-8"))
        ran = tuple(_ran(one) for one in facts["ran"])
        return Look(str(facts["node"]), _time(facts["at"]), ran)
    except (OSError, ValueError, KeyError, TypeError):
        return Look()


def _ran(facts: dict[str, Any]) -> Ran:
    missing_since = _time(facts["missing_since"]) if facts["missing_since"] else ""
    return Ran(str(facts["role"]), int(facts["pid"]), int(facts["started"]), missing_since)


def _time(text: str) -> str:
    """Give a time back that its reader can compare; ValueError when it is none."""
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


def keep(run_folder: Path, look: Look) -> None:
    """Write a look down; OSError."""
    part = run_folder / f"{_FILE}.part"
    part.write_text(json.dumps(asdict(look)), "utf-8")
    part.replace(run_folder / _FILE)


def forget(run_folder: Path) -> None:
    """Begin without: the node was stopped in order."""
    (run_folder / _FILE).unlink(missing_ok=True)
