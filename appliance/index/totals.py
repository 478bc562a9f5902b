"""Sums over the whole index, for the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from appliance.index import schema as t


@dataclass(frozen=True, slots=True)
class Totals:
    """What came and went so far, and what is kept now."""

    open_associations: int
    associations: int
    received: int
    failures: int
    sent: int
    kept: int
    kept_bytes: int


def totals(connection: sa.Connection) -> Totals:
    """Count and add up; `received` and `failures` count closed associations' instances."""
    a, i, d = t.associations, t.instances, t.delivery_instances
    everywhere = sa.func.count()
    return Totals(
        open_associations=_one(
            connection, sa.select(everywhere).select_from(a).where(a.c.closed_at.is_(None))
        ),
        associations=_one(connection, sa.select(everywhere).select_from(a)),
        received=_one(connection, sa.select(sa.func.sum(a.c.instances))),
        failures=_one(connection, sa.select(sa.func.sum(a.c.failures))),
        sent=_one(
            connection,
            sa.select(everywhere).select_from(d).where(d.c.state.in_(["sent", "warning"])),
        ),
        kept=_one(connection, sa.select(everywhere).select_from(i)),
        kept_bytes=_one(connection, sa.select(sa.func.sum(i.c.size_bytes))),
    )


def _one(connection: sa.Connection, query: sa.Select[Any]) -> int:
    return int(connection.scalar(query) or 0)
