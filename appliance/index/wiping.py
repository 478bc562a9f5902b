"""Let the database keep no bytes of rows that were deleted.

SQLite zeroes what is deleted from now on (`secure_delete`); what an older version left in
free places goes when the whole file is written anew, and its log is cut to nothing.
PostgreSQL gives the places of deleted rows free; their bytes stay in its files until
they are used again.
"""

from __future__ import annotations

import time

import sqlalchemy as sa

from appliance.errors import IndexUnavailable
from appliance.index import schema as t
from appliance.index.database import Database, plain_errors

_READERS_SECONDS = 30.0
_LOOK_SECONDS = 0.1
_TOUCHED = (
    t.studies, t.series, t.instances, t.arrivals, t.arrival_associations, t.receptions,
    t.jobs, t.job_inputs, t.job_steps, t.deliveries, t.delivery_instances, t.events, t.alerts,
)  # fmt: skip


def wipe(db: Database) -> None:
    """Write the index anew (SQLite: nobody else writes meanwhile), or give its places free.

    Raises IndexUnavailable when others hold it too long: it may be called again.
    """
    if db.is_sqlite:
        _wipe_sqlite(db)
        return
    with plain_errors(), db.engine.connect() as connection:
        plain = connection.execution_options(isolation_level="AUTOCOMMIT")
        for table in _TOUCHED:
            plain.execute(sa.text(f"VACUUM {table.name}"))


def _wipe_sqlite(db: Database) -> None:
    with plain_errors():
        connection = db.engine.raw_connection()
    try:
        with plain_errors():
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            deadline = time.monotonic() + _READERS_SECONDS
            # A reader that began before keeps the log from being cut.
            while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    raise IndexUnavailable(
                        "the index's log cannot be cut while somebody reads the index",
                        remedy="end what reads it, such as a backup",
                    )
                time.sleep(_LOOK_SECONDS)
    finally:
        connection.close()
