"""Tell of the processes that supervisord started again since they died, one event for each.

Receiving processes are their parent's to tell of, supervisord is `brookbox up`'s; who was
ended in order is told of by who did it, or by nobody.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from appliance import ids, logs
from appliance.disk.layout import Layout
from appliance.health import deaths, node_lock, stopped, who_runs
from appliance.health.who_runs import Look, Ran
from appliance.index import events
from appliance.index.database import Database

_TOLD_BY_OTHERS = ("receiving process", "supervisord")
_TAIL_BYTES = 256_000


def look(db: Database, layout: Layout, now: datetime) -> None:
    """Look who died since the last look; nothing where no `brookbox up` looks after the node."""
    top = node_lock.holder(layout.run)
    if top is None:
        return
    try:
        node = str(ids.name_of(top.pid))
    except ProcessLookupError:
        return
    before = who_runs.read(layout.run)
    if before.node and before.node != node:
        _tell_of_bad_end(db, before, now)
    if before.node != node:
        before = Look(node)
    after = before.then(stopped.parts_below(top.pid), now)
    due = [one for one in after.ran if one.missing_since and _is_due(one, now)]
    for one in due:
        _tell(db, layout, one, {other.role for other in after.ran if not other.missing_since}, now)
    # Last: one that is killed before tells again, and finds its own events.
    who_runs.keep(layout.run, after.without(due))


def _is_due(one: Ran, now: datetime) -> bool:
    waited = (now - datetime.fromisoformat(one.missing_since)).total_seconds()
    return not 0 <= waited < deaths.PATIENCE_SECONDS


def _tell(db: Database, layout: Layout, one: Ran, running: set[str], now: datetime) -> None:
    if one.role in _TOLD_BY_OTHERS:
        return
    how = deaths.in_log(_last_lines(layout.logs / "supervisord.log"), one.role, one.pid)
    if how is None:
        return
    if deaths.tell(db, "housekeeper", one.role, one.pid, how, now, again=one.role in running):
        logs.get().error("a process died", part=one.role, pid=one.pid, how=how)


def _tell_of_bad_end(db: Database, former: Look, now: datetime) -> None:
    seen = f"{datetime.fromisoformat(former.at):%Y-%m-%d %H:%M:%S} UTC" if former.at else "?"
    sentence = (
        "The node had not been stopped in order before this start: it was killed, or the "
        f"machine went down. It was seen last at {seen}."
    )
    logs.get().warning("the node had not been stopped in order", seen_last=former.at)
    with db.write() as connection:
        events.append(connection, "died", sentence, now, who="housekeeper", part="brookbox up")


def _last_lines(log: Path) -> list[str]:
    """Read the end of supervisord's log, and of the one before it where it is young."""
    text = b""
    for file in (log, log.with_name(f"{log.name}.1")):
        if len(text) < _TAIL_BYTES and file.is_file():
            with file.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, size - _TAIL_BYTES))
                text = stream.read() + text
    return text.decode("utf-8", "replace").splitlines()
