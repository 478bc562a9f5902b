"""Who is asked, when somebody is restarted, and what the clock does."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.disk.layout import Layout
from appliance.health import index_holder, node_lock
from appliance.housekeeper import clock, heartbeat
from appliance.housekeeper.clock import Reading
from appliance.housekeeper.heartbeat import Failures, Heartbeat, silent
from appliance.index import database, events, migrate
from appliance.index.beats import Beat
from appliance.index.database import Database
from appliance.settings import Index, Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_three_failures_in_a_row_are_needed() -> None:
    failures = Failures()
    assert failures.note({"web": "mute", "receiver": ""}) == []
    assert failures.note({"web": "mute", "receiver": "mute"}) == []
    assert failures.note({"web": "", "receiver": "mute"}) == []
    assert failures.note({"web": "mute", "receiver": "mute"}) == ["receiver"]
    assert failures.note({"web": "mute", "receiver": "mute"}) == [], "it got no time to start"
    assert failures.note({"web": "mute", "receiver": ""}) == ["web"]


WRITER = """
import sqlite3, sys, time
index = sqlite3.connect(sys.argv[1], isolation_level=None)
index.execute("BEGIN IMMEDIATE")
print("writing", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("name", ["router", "psql"])
def test_one_of_ours_that_never_ends_its_write_is_ended_at_the_third_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Somebody else's program is left alone."""
    for question in ("receiver_answers", "web_answers", "gearmand_answers"):
        monkeypatch.setattr(heartbeat.answers, question, lambda *_: "")
    settings = Settings(home=tmp_path, index=Index(busy_seconds=0.1))
    layout = Layout(settings.data_root)
    layout.make()
    db = database.connect(settings)
    migrate.migrate(db)
    one = Heartbeat(db, layout)
    file = str(database.sqlite_file(settings))
    command = [sys.executable, "-c", WRITER, file, "appliance.cli", name]
    with node_lock.held(layout.run), subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
            assert index_holder.holder_of(Path(file)) == writer.pid
            one.note_index(NOW, is_writable=False)
            for _ in range(2):
                one.beat(settings, NOW)
                assert writer.poll() is None
            one.beat(settings, NOW)
            if name == "router":
                assert writer.wait(10) == -9
                with db.read() as connection:
                    [told] = events.latest(connection, 5, kind="restarted")
                assert told.sentence.startswith(f"router (pid {writer.pid}) was restarted: it did")
            assert writer.poll() == (-9 if name == "router" else None)
        finally:
            writer.kill()
    db.close()
    assert index_holder.holder_of(Path(file)) is None


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
    long_ago = NOW - timedelta(hours=1)
    found = silent(seen, "here", NOW, long_ago)
    assert found == {"dispatcher": "", "worker": "it has been silent for 61 s", "router": ""}
    assert "not said yet" in silent([], "here", NOW, long_ago)["worker"]


def test_who_could_not_write_his_beat_is_innocent() -> None:
    seen = [beat(name, 600) for name in ("dispatcher", "worker", "router")]
    lately = NOW - timedelta(seconds=59)
    assert set(silent(seen, "here", NOW, lately).values()) == {""}
    assert all(silent(seen, "here", NOW, NOW - timedelta(seconds=61)).values())


def test_while_the_index_cannot_be_written_nobody_is_silent(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for question in ("receiver_answers", "web_answers", "gearmand_answers"):
        monkeypatch.setattr(heartbeat.answers, question, lambda *_: "")
    one = Heartbeat(db, Layout(tmp_path))
    settings = Settings(home=tmp_path)
    one.note_index(NOW - timedelta(hours=1), is_writable=True)
    assert set(one.beat(settings, NOW)) == {"dispatcher", "worker", "router"}
    one.note_index(NOW, is_writable=False)
    assert one.beat(settings, NOW) == {}
    one.note_index(NOW, is_writable=True)
    assert one.beat(settings, NOW + timedelta(seconds=59)) == {}


@pytest.mark.parametrize(
    ("wall", "boot", "by"),
    [
        (10.0, 10.0, 0.0),
        (3610.0, 10.0, 3600.0),  # set forward
        (-3590.0, 10.0, -3600.0),  # set back
        (7200.0, 7200.0, 0.0),  # the machine slept: the boot clock went on
    ],
)
def test_ft_29_a_jump_is_what_the_clocks_differ_by(wall: float, boot: float, by: float) -> None:
    before = Reading(NOW, 1000.0)
    after = Reading(NOW + timedelta(seconds=wall), 1000.0 + boot)
    assert clock.jump(before, after) == timedelta(seconds=by)


def test_ft_29_retention_stays_stopped_until_a_person_confirms(tmp_path: Path) -> None:
    assert clock.why_stopped(tmp_path) == "" and not clock.confirm(tmp_path)
    clock.stop_retention(tmp_path, timedelta(days=366), NOW)
    assert "+366.0 days" in clock.why_stopped(tmp_path)
    assert "brookbox housekeeper-confirm" in clock.why_stopped(tmp_path)
    assert clock.confirm(tmp_path) and clock.why_stopped(tmp_path) == ""


def test_an_unreadable_note_stops_retention_too(tmp_path: Path) -> None:
    (tmp_path / "clock-jump.json").write_text("{")
    assert "nothing is removed" in clock.why_stopped(tmp_path)
