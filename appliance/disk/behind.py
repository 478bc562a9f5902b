"""What each receiving process says of itself: how far its rows are behind, how it syncs.

A small file in run/ for each, since it has to be told while the index is away.  Read by
`brookbox doctor` and for the figures; what a dead process said does not count.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance import ids
from appliance.disk.layout import Layout

_NAME = "rows-behind-{pid}.json"


@dataclass(frozen=True, slots=True)
class Behind:
    """One process: instances that were answered and have no row yet, the oldest since so long."""

    process: str
    rows: int
    seconds: float
    durability: str  # which way is taken now to make instances durable, and why


def note(layout: Layout, rows: int, seconds: float, durability: str) -> None:
    """Say it for the calling process; best done, since a full volume may refuse it."""
    path = _path(layout)
    part = path.with_suffix(".part")
    with suppress(OSError):  # out of descriptors, /proc cannot be read either
        mine = Behind(str(ids.this_process()), rows, round(seconds, 3), durability)
        part.write_text(json.dumps(asdict(mine)), encoding="utf-8")
        part.rename(path)


def remove(layout: Layout) -> None:
    """Take back what the calling process said: it ends."""
    with suppress(OSError):
        _path(layout).unlink(missing_ok=True)


def read(layout: Layout) -> list[Behind]:
    """Give what the living processes say; what dead ones left is removed."""
    found = []
    for path in sorted(layout.run.glob(_NAME.format(pid="*"))):
        with suppress(OSError, ValueError, TypeError, KeyError):
            one = Behind(**json.loads(path.read_text("utf-8")))
            if ids.parse_process(one.process).is_alive():
                found.append(one)
            else:
                path.unlink(missing_ok=True)
    return found


def _path(layout: Layout) -> Path:
    return layout.run / _NAME.format(pid=os.getpid())
