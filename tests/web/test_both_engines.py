"""The pages show the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.index.database import Database
from appliance.settings import Settings
from tests.web.conftest import browser, fill
from tests.web.day import Day
from tests.web.test_pages import PAGES, TWINS, text_of
from web.app import make_app


def test_every_page_answers_on_this_engine(index_settings: Settings, db: Database) -> None:
    fill(Day(index_settings, db, datetime.now(UTC)))
    client = browser(make_app(index_settings, db), "http://localhost")
    for path in [*PAGES[:-1], *(f"/api/v1/{twin}" for twin in TWINS), "/health", "/metrics"]:
        assert client.get(path).status_code == 200, path
    assert "Roe, Richard" in text_of(client, "/jobs?q=roe")
    found = client.get("/api/v1/arrivals").get_json()
    assert [one["arrival"]["instances"] for one in found["open"]] == [23]
    assert found["open"][0]["arrival"]["calling_ae_titles"] == ["CT2"]
    assert found["closed"][0]["arrival"]["note"].startswith("Identical to job")
