"""Who is asked, when somebody is restarted, and what the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.housekeeper import clock
from appliance.housekeeper.clock import Reading
from appliance.housekeeper.heartbeat import Failures, silent
from appliance.index.beats import Beat

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_three_failures_in_a_row_are_needed() -> None:
    failures = Failures()
    assert failures.note({"web": "mute", "receiver": ""}) == []
    assert failures.note({"web": "mute", "receiver": "mute"}) == []
    assert failures.note({"web": "", "receiver": "mute"}) == []
    assert failures.note({"web": "mute", "receiver": "mute"}) == ["receiver"]
    assert failures.note({"web": "mute", "receiver": "mute"}) == [], "it got no time to start"
    assert failures.note({"web": "mute", "receiver": ""}) == ["web"]


def beat(name: str, seconds: float, host: str = "here") -> Beat:
    at = NOW - timedelta(seconds=seconds)
    return Beat(f"{host}/1/2.00", name, at, at, "")


def test_silence_of_this_host_alone_counts() -> None:
    seen = [
        beat("dispatcher", 5),
        beat("worker", 61),
        beat("worker", 1, host="there"),
        beat("router", 300),
        beat("router", 2),
    ]
    found = silent(seen, "here", NOW)
    assert found == {"dispatcher": "", "worker": "it has been silent for 61 s", "router": ""}
    assert "not said yet" in silent([], "here", NOW)["worker"]


@pytest.mark.parametrize(
    ("wall", "boot", "by"),
    [
        (10.0, 10.0, 0.0),
        (3610.0, 10.0, 3600.0),  # set forward
        (-3590.0, 10.0, -3600.0),  # set back
        (7200.0, 7200.0, 0.0),  # the machine slept: the boot clock went on
    ],
)
def test_a_jump_is_what_the_clocks_differ_by(wall: float, boot: float, by: float) -> None:
    before = Reading(NOW, 1000.0)
    after = Reading(NOW + timedelta(seconds=wall), 1000.0 + boot)
    assert clock.jump(before, after) == timedelta(seconds=by)


def test_retention_stays_stopped_until_a_person_confirms(tmp_path: Path) -> None:
    assert clock.why_stopped(tmp_path) == "" and not clock.confirm(tmp_path)
    clock.stop_retention(tmp_path, timedelta(days=366), NOW)
    assert "+366.0 days" in clock.why_stopped(tmp_path)
    assert "brookbox housekeeper-confirm" in clock.why_stopped(tmp_path)
    assert clock.confirm(tmp_path) and clock.why_stopped(tmp_path) == ""


def test_an_unreadable_note_stops_retention_too(tmp_path: Path) -> None:
    (tmp_path / "clock-jump.json").write_text("{")
    assert "nothing is removed" in clock.why_stopped(tmp_path)
