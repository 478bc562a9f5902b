"""Processes of the node that somebody stopped (SIGSTOP, Ctrl-Z): seen in /proc, without the index.

A stopped process says nothing, and one that was stopped in the middle of a write holds
SQLite's lock, so that nobody else can say that he is alive either.  The kernel tells the
one from the others: its state is T.  One that a debugger holds has the state t, and is
left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.health.resources import name_of

_PARTS = ("supervisord", "gearmand", "receiver", "dispatcher", "worker", "router", "housekeeper",
          "web")  # fmt: skip
_STOPPED = "T"


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the node; `started` counts the kernel's ticks from the boot.

    `role` is its name, or `receiving process` for a child of the receiver.
    """

    pid: int
    role: str
    state: str
    started: int


@dataclass(frozen=True, slots=True)
class _Stat:
    """What proc(5)'s stat says of one process."""

    pid: int
    state: str
    parent: int
    started: int


def parts_below(pid: int) -> list[Part]:
    """List the node's own processes below one of them; what jobs run is not among them."""
    children: dict[int, list[_Stat]] = {}
    for stat in _all_stats():
        children.setdefault(stat.parent, []).append(stat)
    return list(_below(pid, "", children))


def _below(pid: int, above: str, children: dict[int, list[_Stat]]) -> Iterable[Part]:
    for stat in children.get(pid, []):
        name = _name(stat.pid)
        if name in _PARTS and name != above:
            yield Part(stat.pid, name, stat.state, stat.started)
        elif name == above == "receiver":
            yield Part(stat.pid, "receiving process", stat.state, stat.started)
        else:
            continue  # a job's, or a child of ours that is about to become one
        yield from _below(stat.pid, name, children)


@dataclass(slots=True)
class Stopped:
    """Since when each stopped process was seen to be so."""

    since: dict[tuple[int, int], float] = field(default_factory=dict)

    def note(self, parts: Sequence[Part], now: float, patience_seconds: float) -> list[Part]:
        """Note who is stopped now; give those who have been for long.  `now` never jumps."""
        stopped = {(one.pid, one.started): one for one in parts if one.state == _STOPPED}
        self.since = {key: self.since.get(key, now) for key in stopped}
        return [one for key, one in stopped.items() if now - self.since[key] >= patience_seconds]


def _all_stats() -> Iterable[_Stat]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_bytes().rpartition(b")")[2].split()
            pid = int(path.parent.name)
            yield _Stat(pid, fields[0].decode(), int(fields[1]), int(fields[19]))


def _name(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return ""
    return name_of([word.decode("utf-8", "replace") for word in words])
