"""Which streams cannot serve, since when, and what is said of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.streams import broken
from appliance.streams.catalog import read_streams

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = {"AETitle": "ONE", "image": "a/b:1", "command": ["run"]}


def put(streams: Path, name: str, text: str) -> None:
    (streams / name).mkdir(parents=True, exist_ok=True)
    (streams / name / "info.json").write_text(text)


def test_each_that_is_to_serve_and_cannot_is_named_with_its_first_mistake(tmp_path: Path) -> None:
    put(tmp_path, "good", json.dumps(GOOD))
    put(tmp_path, "off", json.dumps({**GOOD, "AETitle": "OFF", "command": [], "enabled": 0}))
    put(tmp_path, "titled", '{"AETitle": "TITLED",\n "name": }')
    (tmp_path / "empty").mkdir()
    empty, titled = broken.found(read_streams(tmp_path), NOW)
    assert (empty.subject, empty.is_served) == ("empty", False)
    assert empty.sentence == (
        "The stream folder empty cannot serve: "
        "empty/info.json: There is no info.json in this folder."
    )
    assert empty.remedy == f"brookbox streams check {tmp_path / 'empty'}"
    assert titled.subject == "TITLED"
    assert "No stream serves TITLED, who calls it is refused (1,1,7): " in titled.sentence
    assert "titled/info.json:2: This is not JSON" in titled.sentence


def test_two_of_one_ae_title_are_one_thing_and_less_urgent_while_one_serves(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path, name, json.dumps(GOOD))
    [both] = broken.found(read_streams(tmp_path), NOW)
    assert (both.subject, both.is_served) == ("ONE", False)
    assert "AETitle ONE is also that of b." in both.sentence
    assert "AETitle ONE is also that of a." in both.sentence
    [copy] = broken.found(read_streams(tmp_path, serving={"a"}), NOW)
    assert (copy.subject, copy.is_served) == ("ONE", True)
    assert copy.sentence.startswith("b does not serve ONE, another folder does: b/info.json")


def test_what_is_broken_is_so_since_it_was_seen_first_and_not_after_it_was_mended(
    tmp_path: Path,
) -> None:
    streams = tmp_path / "streams"
    Layout(tmp_path).make()
    assert broken.noted(tmp_path) == []
    put(streams, "one", "{")
    broken.note(tmp_path, read_streams(streams), NOW)
    put(streams, "one", "[]")
    broken.note(tmp_path, read_streams(streams), NOW + timedelta(minutes=1))
    [one] = broken.noted(tmp_path)
    assert one.since == NOW.isoformat() and "must hold one JSON object" in one.sentence
    put(streams, "one", json.dumps(GOOD))
    broken.note(tmp_path, read_streams(streams), NOW)
    assert broken.noted(tmp_path) == []
    shutil.rmtree(streams)
    for damaged in ("{", '[{"subject": "x"}]', json.dumps([{**asdict(one), "since": "now"}])):
        (Layout(tmp_path).run / "broken.json").write_text(damaged)
        assert broken.noted(tmp_path) == []
