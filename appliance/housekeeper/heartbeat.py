"""The heartbeat: ask each part of the node whether it answers, restart what fails three times.

MagickBox had one.  Processes with a port are asked; the others say in the index that
they are alive.  While the index cannot be written nobody can say so, and nobody is to
blame: silence counts from the moment at which the housekeeper could write itself.  One
that was stopped (SIGSTOP) may be who holds the index; `brookbox up` ends it.  Another that
holds it over three beats hangs in the middle of a write, and is ended here.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appliance import ids, logs
from appliance.disk.layout import Layout
from appliance.errors import IndexUnavailable, NodeError
from appliance.health import answers, index_holder, node_lock, stopped, supervisor
from appliance.health.stopped import Part
from appliance.index import beats, events
from appliance.index.beats import Beat
from appliance.index.database import Database, sqlite_file
from appliance.settings import Settings

FAILURES = 3
SILENCE = timedelta(seconds=60)  # they beat every ten seconds
_SILENT_ONES = ("dispatcher", "worker", "router")


@dataclass(slots=True)
class Failures:
    """How often in a row each part has not answered."""

    counts: dict[str, int] = field(default_factory=dict)

    def note(self, found: Mapping[str, str]) -> list[str]:
        """Note who did not answer (name and reason; "" is well); name those to restart now."""
        for name, why in found.items():
            self.counts[name] = self.counts.get(name, 0) + 1 if why else 0
        due = [name for name, count in self.counts.items() if count >= FAILURES]
        self.counts.update(dict.fromkeys(due, 0))
        return due


def silent(
    seen: Collection[Beat], host: str, now: datetime, writable_since: datetime
) -> dict[str, str]:
    """Say who of this host has been silent for long: name and reason, "" for the others.

    `writable_since` is the moment from which on everybody could write his beats.
    """
    found = {}
    for name in _SILENT_ONES:
        mine = [b.at for b in seen if b.name == name and b.process.startswith(f"{host}/")]
        mine = [at for at in mine if at - now <= SILENCE]  # else the clock was set back since
        late = now - max([*mine, writable_since]) > SILENCE
        if not late:
            found[name] = ""
        elif not mine:
            found[name] = "it has not said yet that it is alive"
        else:
            found[name] = f"it has been silent for {(now - max(mine)).total_seconds():.0f} s"
    return found


class Heartbeat:
    """What one housekeeper remembers of the others between its beats."""

    def __init__(self, db: Database, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._failures = Failures()
        self._holding = Failures()
        self._writable_since: datetime | None = None

    def note_index(self, now: datetime, *, is_writable: bool) -> None:
        """Note whether the housekeeper could write its own beat just now."""
        if not is_writable:
            self._writable_since = None
        elif self._writable_since is None or self._writable_since > now:  # or it was set back
            self._writable_since = now

    def beat(self, settings: Settings, now: datetime) -> dict[str, str]:
        """Ask everybody, and restart who has failed three times; give who failed and why."""
        found = self._ask(settings, now)
        self._end_long_writer(settings, now)
        for name, why in found.items():
            if why:
                logs.get().warning("no answer", part=name, why=why)
        for name in self._failures.note(found):
            self._restart(name, found[name], now)
        return {name: why for name, why in found.items() if why}

    def _ask(self, settings: Settings, now: datetime) -> dict[str, str]:
        patience = min(10.0, settings.housekeeper.beat_seconds)
        questions: dict[str, Callable[[Settings, float], str]] = {
            "receiver": answers.receiver_answers,
            "web": answers.web_answers,
        }
        if settings.queue.start_gearmand:
            questions["gearmand"] = answers.gearmand_answers
        found = {name: ask(settings, patience) for name, ask in questions.items()}
        if self._writable_since is None:
            return found  # nobody can say that he is alive: that is no reason to restart
        try:
            with self._db.read() as connection:
                seen = beats.all_beats(connection)
        except IndexUnavailable as error:
            logs.get().warning("beats cannot be read", why=str(error))
            return found
        return found | silent(seen, ids.this_process().host, now, self._writable_since)

    def _end_long_writer(self, settings: Settings, now: datetime) -> None:
        """Kill a process of ours that has held SQLite's lock at each of three beats."""
        parts = {} if self._writable_since or settings.index.url else self._parts()
        pid = index_holder.holder_of(sqlite_file(settings)) if parts else None
        part = parts.get(pid or 0)
        held = {f"{part.pid}/{part.started}": "it holds the index"} if part else {}
        self._holding.counts = {k: n for k, n in self._holding.counts.items() if k in held}
        if part and self._holding.note(held):
            with contextlib.suppress(ProcessLookupError):
                os.kill(part.pid, signal.SIGKILL)
            why = "it did not end what it was writing to the index"
            self._tell(f"{part.role} (pid {part.pid})", why, now)

    def _parts(self) -> dict[int, Part]:
        top = node_lock.holder(self._layout.run)
        return {one.pid: one for one in stopped.parts_below(top.pid)} if top else {}

    def _restart(self, name: str, why: str, now: datetime) -> None:
        try:
            supervisor.restart(self._layout.run, name)
        except NodeError as error:
            logs.get().error("cannot restart", part=name, why=str(error))
            return
        self._tell(name, f"{FAILURES} times in a row it gave no answer ({why})", now)

    def _tell(self, name: str, why: str, now: datetime) -> None:
        logs.get().error("restarted", part=name, why=why)
        sentence = f"{name} was restarted: {why}."
        try:
            with self._db.write() as connection:
                events.append(connection, "restarted", sentence, now, who="housekeeper", part=name)
        except IndexUnavailable as error:
            logs.get().warning("event not kept", why=str(error))
