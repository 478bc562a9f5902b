"""An index that is migrated already: made once in each process of pytest, then copied.

That saves each test the CPU of a migration; the migration itself has tests of its own.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from appliance.index import database, migrate
from appliance.index.database import Database
from appliance.settings import Settings


def migrated(settings: Settings) -> Database:
    """Connect to an index of today's schema, which is made when there is none yet."""
    file = database.sqlite_file(settings)
    if not settings.index.url and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(0o600)
        file.write_bytes(_empty_index())
    db = database.connect(settings)
    if migrate.needs_migration(db):
        migrate.migrate(db)
    return db


@functools.cache
def _empty_index() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        db = database.connect(settings)
        migrate.migrate(db)
        db.close()
        return database.sqlite_file(settings).read_bytes()
