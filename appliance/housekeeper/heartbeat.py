"""The heartbeat: ask each part of the node whether it answers, restart what fails three times.

MagickBox had one.  Processes with a port are asked; the others say in the index that
they are alive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appliance import ids, logs
from appliance.disk.layout import Layout
from appliance.errors import IndexUnavailable, NodeError
from appliance.health import answers, supervisor
from appliance.index import beats, events
from appliance.index.beats import Beat
from appliance.index.database import Database
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


def silent(seen: Collection[Beat], host: str, now: datetime) -> dict[str, str]:
    """Say who of this host has been silent for long: name and reason, "" for the others."""
    found = {}
    for name in _SILENT_ONES:
        mine = [b.at for b in seen if b.name == name and b.process.startswith(f"{host}/")]
        quiet = now - max(mine) if mine else None
        if quiet is None:
            found[name] = "it has not said yet that it is alive"
        else:
            late = quiet > SILENCE
            found[name] = f"it has been silent for {quiet.total_seconds():.0f} s" if late else ""
    return found


class Heartbeat:
    """What one housekeeper remembers of the others between its beats."""

    def __init__(self, db: Database, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._failures = Failures()

    def beat(self, settings: Settings, now: datetime) -> dict[str, str]:
        """Ask everybody, and restart who has failed three times; give who failed and why."""
        found = self._ask(settings, now)
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
        try:
            with self._db.read() as connection:
                found |= silent(beats.all_beats(connection), ids.this_process().host, now)
        except IndexUnavailable as error:
            # Without the index nobody can say that he is alive: that is no reason to restart.
            logs.get().warning("beats cannot be read", why=str(error))
        return found

    def _restart(self, name: str, why: str, now: datetime) -> None:
        sentence = f"{name} was restarted: {FAILURES} times in a row it gave no answer ({why})."
        try:
            supervisor.restart(self._layout.run, name)
        except NodeError as error:
            logs.get().error("cannot restart", part=name, why=str(error))
            return
        logs.get().error("restarted", part=name, why=why)
        try:
            with self._db.write() as connection:
                events.append(connection, "restarted", sentence, now, who="housekeeper", part=name)
        except IndexUnavailable as error:
            logs.get().warning("event not kept", why=str(error))
