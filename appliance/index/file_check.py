"""The index compared with itself and with the files, for `brookbox index check` and doctor."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import Database


def integrity(db: Database) -> str:
    """Have SQLite look at its own pages; "" when they are sound, or with PostgreSQL."""
    if not db.is_sqlite:
        return ""
    with db.read() as connection:
        said = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(5)")]
    return "" if said == ["ok"] else "; ".join(said)


def instance_paths(connection: sa.Connection) -> Iterator[str]:
    """Give the path of every instance, below data_root."""
    query = sa.select(t.instances.c.path).order_by(t.instances.c.path)
    yield from connection.execution_options(yield_per=1000).scalars(query)


def instance_digests(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """Give the path and the SHA-256 of the data set of every instance that has one yet."""
    i = t.instances.c
    query = sa.select(i.path, i.dataset_sha256).where(i.dataset_sha256 != "").order_by(i.path)
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield row.path, row.dataset_sha256
