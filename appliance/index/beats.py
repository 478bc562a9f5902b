"""Which processes of the node are alive, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import Database, insert_new


@dataclass(frozen=True, slots=True)
class Beat:
    """The last beat of one process; `says` is a sentence when something is wrong with it."""

    process: str
    name: str
    started_at: datetime
    at: datetime
    says: str


def beat(db: Database, process: str, name: str, now: datetime, says: str = "") -> None:
    """Say that a process is alive."""
    with db.write() as connection:
        new = {"process": process, "name": name, "started_at": now, "at": now, "says": says}
        if not insert_new(connection, t.beats, new):
            connection.execute(
                sa.update(t.beats).where(t.beats.c.process == process).values(at=now, says=says)
            )


def remove(db: Database, processes: Collection[str]) -> None:
    """Take processes away that stopped, or died."""
    with db.write() as connection:
        connection.execute(sa.delete(t.beats).where(t.beats.c.process.in_(list(processes))))


def all_beats(connection: sa.Connection) -> list[Beat]:
    """List every process's last beat, by name."""
    query = sa.select(t.beats).order_by(t.beats.c.name, t.beats.c.process)
    return [Beat(**row) for row in connection.execute(query).mappings()]
