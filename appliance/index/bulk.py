"""Many new rows in one statement: the engine makes them of one text in JSON.

The thread that writes them then holds Python's lock for a few microseconds a row, which the
threads that receive need.  Cells are JSON values, times as `time_cell` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

_ENGINES = ("sqlite", "postgresql")
IGNORE = " ON CONFLICT DO NOTHING"


class Insert:
    """An INSERT of rows with these columns; made once, since that takes longer than to run it."""

    def __init__(
        self,
        table: sa.Table,
        columns: Sequence[str],
        fixed: Mapping[str, str] | None = None,
        conflict: str = "",
    ) -> None:
        """`fixed` columns have one value for all, written in SQL; `conflict` stands at the end."""
        self._statements = {
            engine: sa.text(_written(engine, table, columns, fixed or {}) + conflict)
            for engine in _ENGINES
        }

    def run(self, connection: sa.Connection, rows: Sequence[Sequence[object]]) -> None:
        """Insert rows, each a cell for each column, in that order."""
        if rows:
            statement = self._statements[connection.dialect.name]
            connection.execute(statement, {"rows": json.dumps(rows)})


def time_cell(at: datetime) -> str:
    """Write an aware UTC datetime as `schema.Utc` does, in a third of the time."""
    return at.isoformat(timespec="microseconds")[:26] + "Z"


def _written(
    engine: str, table: sa.Table, columns: Sequence[str], fixed: Mapping[str, str]
) -> str:
    cells = [_cell(engine, table.c[name].type, at) for at, name in enumerate(columns)]
    rows = "json_each(:rows)" if engine == "sqlite" else "json_array_elements(CAST(:rows AS json))"
    into = ", ".join([*columns, *fixed])
    return (
        f"INSERT INTO {table.name} ({into}) SELECT {', '.join([*cells, *fixed.values()])} "
        f"FROM {rows} WHERE true"
    )


def _cell(engine: str, kind: Any, at: int) -> str:
    if engine == "sqlite":
        return f"json_extract(value, '$[{at}]')"
    is_number = isinstance(kind, sa.Integer)
    return f"CAST(value->>{at} AS bigint)" if is_number else f"(value->>{at})"
