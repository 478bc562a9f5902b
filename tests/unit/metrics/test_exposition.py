"""The metrics are what Prometheus' own parser reads, also when half of the node is away."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from appliance.index import alerts, beats, lanes
from appliance.index.database import Database
from appliance.index.lanes import Lane
from appliance.metrics.exposition import render
from appliance.settings import Index, Queue, Settings
from tests.kit.waiting import free_port


def scraped(settings: Settings, db: Database) -> dict[tuple[str, ...], float]:
    text = render(settings, db).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def without_gearmand(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir(exist_ok=True)
    return Settings(home=tmp_path, queue=Queue(servers=(f"127.0.0.1:{free_port()}",)))


def test_an_empty_node_has_every_state_at_zero(db: Database, tmp_path: Path) -> None:
    found = scraped(without_gearmand(tmp_path), db)
    for state in ("queued", "running", "succeeded", "partial", "failed", "cancelled"):
        assert found["brookbox_jobs", state] == 0
    assert found["brookbox_deliveries", "gave_up"] == 0
    assert found["brookbox_index_up",] == 1 and found["brookbox_queue_up",] == 0
    assert found["brookbox_disk_free_bytes",] > 0


def test_beats_and_lanes_are_counted(db: Database, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    beats.beat(db, "here/1/1.00", "worker", now)
    made = [
        Lane(f"w{n}", "here/1/1.00", "MONTAGE", n == 0, "", "", "process", None, now)
        for n in (0, 1)
    ]
    lanes.beat(db, "here/1/1.00", made)
    found = scraped(without_gearmand(tmp_path), db)
    assert found["brookbox_lanes_open", "MONTAGE"] == 1
    assert found["brookbox_beat_age_seconds", "worker"] < 30


def test_what_is_wrong_is_counted(db: Database, tmp_path: Path) -> None:
    alerts.begin(db, "stream", "MONTAGE", "It fails.", "look", datetime.now(UTC))
    found = scraped(without_gearmand(tmp_path), db)
    assert found["brookbox_alert", "stream", "MONTAGE"] == 1


def test_an_index_that_is_away_is_said(tmp_path: Path) -> None:
    from appliance.index.database import connect

    settings = without_gearmand(tmp_path)
    gone = Settings(home=tmp_path, index=Index(url=f"sqlite:///{tmp_path}/data"))
    db = connect(gone)
    found = scraped(settings, db)
    assert found["brookbox_index_up",] == 0
    assert ("brookbox_jobs", "queued") not in found
    db.close()
