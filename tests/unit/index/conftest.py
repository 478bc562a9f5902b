"""A second index beside that of `index_settings`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.index import database, migrate
from appliance.index.database import Database
from appliance.settings import Settings


@pytest.fixture
def empty(index_settings: Settings) -> Iterator[Database]:
    """A second index, of SQLite, to make again from an index of either engine."""
    db = database.connect(Settings(home=index_settings.home / "second"))
    migrate.migrate(db)
    yield db
    db.close()
