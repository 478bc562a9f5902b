"""How often each process of the node was started anew within an hour.

Kept in `run/starts.json`, so that a housekeeper that is itself started anew goes on
counting.  What `brookbox up` starts at first does not count.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from appliance import ids
from appliance.health import node_lock, stopped
from appliance.health.stopped import Part

_HOUR = timedelta(hours=1)
_FILE = "starts.json"


@dataclass(slots=True)
class Starts:
    """Who runs, and when each that came later was seen first; `node` is `brookbox up`."""

    node: str = ""
    known: set[str] = field(default_factory=set)
    seen: list[tuple[str, datetime]] = field(default_factory=list)

    def note(self, node: str, parts: list[Part], now: datetime) -> None:
        """Note who runs now; of another node everybody is new, and counts for nothing."""
        running = {f"{one.role}/{one.pid}/{one.started}": one.role for one in parts}
        if node == self.node:
            self.seen += [(role, now) for name, role in running.items() if name not in self.known]
        else:
            self.seen = []
        self.node, self.known = node, set(running)

    def in_an_hour(self, now: datetime, receiving: int) -> dict[str, int]:
        """Count by role; `receiving` processes are started anew at once with the receiver."""
        self.seen = [(role, at) for role, at in self.seen if abs(now - at) < _HOUR]
        counts: dict[str, int] = {}
        for role, _ in self.seen:
            counts[role] = counts.get(role, 0) + 1
        if "receiving process" in counts:
            counts["receiving process"] //= max(receiving, 1)
        return counts


def look(run_folder: Path, receiving: int, now: datetime) -> dict[str, int]:
    """Look who runs, and count; nothing when no `brookbox up` looks after this node."""
    top = node_lock.holder(run_folder)
    if top is None:
        return {}
    try:
        node = str(ids.name_of(top.pid))
    except ProcessLookupError:
        return {}
    starts = _read(run_folder / _FILE)
    starts.note(node, stopped.parts_below(top.pid), now)
    counts = starts.in_an_hour(now, receiving)
    _write(run_folder / _FILE, starts)
    return counts


def _read(file: Path) -> Starts:
    try:
        facts = json.loads(file.read_text("utf-8"))
        seen = [(str(role), datetime.fromisoformat(at)) for role, at in facts["seen"]]
        return Starts(str(facts["node"]), set(facts["known"]), seen)
    except (OSError, ValueError, KeyError, TypeError):
        return Starts()


def _write(file: Path, starts: Starts) -> None:
    seen = [(role, at.isoformat()) for role, at in starts.seen]
    facts = {"node": starts.node, "known": sorted(starts.known), "seen": seen}
    part = file.with_suffix(".part")
    part.write_text(json.dumps(facts), "utf-8")
    part.replace(file)
