"""Telling of a process of the node that died: one event for each, by whoever sees it.

The receiver's parent sees its children, the housekeeper what supervisord runs, and
`brookbox up` supervisord.  Who was ended on purpose has an event "restarted" with its pid.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.index.database import Database

# Who ends a process writes the event a moment later.
PATIENCE_SECONDS = 5.0
_LATELY = 500  # events
_SIGNALLED = re.compile(r"terminated by (SIG[A-Z0-9]+)")


def how(exit_code: int | None) -> str:
    """Say how a process ended; a negative code is that of the signal which killed it."""
    if exit_code is None:
        return ""
    return f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


def sentence(role: str, pid: int, how: str, *, again: bool) -> str:
    """Say that a process died; `how` may be unknown ("")."""
    because = f" ({how})" if how else ""
    verb = "ended" if how == "exit code 0" else "died"
    then = "and was started again" if again else "and has not come back yet"
    return f"{role} (pid {pid}) {verb}{because} {then}."


def tell(
    db: Database, who: str, role: str, pid: int, how: str, now: datetime, *, again: bool
) -> bool:
    """Append the event, unless one tells of that process already; IndexUnavailable."""
    from appliance.index import events  # when used: `brookbox up` does without the index

    said = sentence(role, pid, how, again=again)
    with db.write() as connection:
        for one in events.latest(connection, _LATELY):
            is_recent = abs(now - one.at).total_seconds() < 600  # a pid is used again one day
            if is_recent and one.kind in ("restarted", "died") and f"(pid {pid})" in one.sentence:
                return False
        events.append(connection, "died", said, now, who=who, part=role, pid=pid)
    return True


def in_log(lines: Sequence[str], name: str, pid: int) -> str | None:
    """Find in supervisord's log how a process ended by itself; None when it was stopped in order.

    It is None also when the log does not say: then supervisord itself had ended.
    """
    begun = f"spawned: '{name}' with pid {pid}"
    at = max((n for n, line in enumerate(lines) if line.rstrip().endswith(begun)), default=None)
    for line in lines[at + 1 :] if at is not None else ():
        if f" stopped: {name} " in line or " supervisord started with pid " in line:
            return None
        if f" exited: {name} (" in line:
            said = line.partition(f"exited: {name} (")[2].partition(";")[0]
            return _in_words(said)
    return None


def _in_words(said: str) -> str:
    if (found := _SIGNALLED.search(said)) and found[1] in signal.Signals.__members__:
        return f"killed by signal {signal.Signals[found[1]].value}"
    return said.replace("exit status", "exit code")
