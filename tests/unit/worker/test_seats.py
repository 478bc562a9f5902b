"""What a worker says of its lanes: one that takes no more jobs is not called open."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.disk.layout import Layout
from appliance.index import database
from appliance.settings import Settings
from appliance.streams.catalog import Streams, read_streams
from appliance.worker import lanes, seats
from appliance.worker.plain_process import ProcessExecutor
from appliance.worker.site import Site

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Idle(lanes.Lane):
    """A lane whose thread lives until the test ends, as one does that waits for its next ring."""

    over = threading.Event()

    def run(self) -> None:
        self.over.wait(60)


def test_why_a_lane_waits_is_a_whole_sentence(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    settings = replace(settings, worker=replace(settings.worker, docker="never"))
    folder = tmp_path / "streams" / "echo"
    folder.mkdir(parents=True)
    info = {"AETitle": "ECHO", "command": ["true"], "trusted": True, "models": "models"}
    (folder / "info.json").write_text(json.dumps(info))
    db = database.connect(settings)
    site = Site(settings, db, Layout(settings.data_root), "h/1/1", [ProcessExecutor(settings)])
    site.streams = read_streams(tmp_path / "streams")
    mine = seats.Seats(site)
    mine.follow(())
    [row] = mine.rows(NOW)
    db.close()
    assert not row.is_open and row.why_not.endswith("is not there."), "others are said after it"


@pytest.mark.parametrize("works_on", [None, 7])
def test_a_lane_of_a_stream_that_is_gone_is_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works_on: int | None
) -> None:
    monkeypatch.setattr(seats, "Lane", Idle)
    monkeypatch.setattr(Idle, "over", threading.Event())
    folder = tmp_path / "streams" / "echo"
    folder.mkdir(parents=True)
    info = {"AETitle": "ECHO", "command": ["true"], "trusted": True}
    (folder / "info.json").write_text(json.dumps(info))
    settings = Settings(home=tmp_path)
    settings = replace(settings, worker=replace(settings.worker, docker="never"))
    db = database.connect(settings)
    site = Site(settings, db, Layout(settings.data_root), "h/1/1", [ProcessExecutor(settings)])
    site.streams = read_streams(tmp_path / "streams")
    mine = seats.Seats(site)
    try:
        mine.follow(())
        assert [row.is_open for row in mine.rows(NOW)] == [True]
        mine.lanes[0].job_id = works_on
        site.streams = Streams()
        mine.follow(())
        told = [(row.job_id, row.is_open, row.why_not) for row in mine.rows(NOW)]
        ends = (works_on, False, "This lane ends after its job.")
        assert told == ([ends] if works_on else [])
    finally:
        Idle.over.set()
        db.close()
