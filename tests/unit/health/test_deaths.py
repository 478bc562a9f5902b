"""Who died, as supervisord's log and the last look say it, and that it is told once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.health import deaths, who_runs
from appliance.health.stopped import Part
from appliance.health.who_runs import Look, Ran
from appliance.index import events
from appliance.index.database import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEGUN = "2026-11-21 21:50:23,763 INFO spawned: 'web' with pid 12"
OTHER = "2026-11-21 21:50:23,763 INFO spawned: 'web' with pid 123"


@pytest.mark.parametrize(
    ("lines", "how"),
    [
        ([BEGUN, "x WARN exited: web (terminated by SIGKILL; not expected)"], "killed by signal 9"),
        ([BEGUN, "x WARN exited: web (exit status 1; not expected)"], "exit code 1"),
        ([BEGUN, "x INFO exited: web (exit status 0; expected)"], "exit code 0"),
        ([BEGUN, "x INFO stopped: web (terminated by SIGKILL)"], None),
        ([BEGUN, "x INFO supervisord started with pid 9", "x exited: web (terminated…"], None),
        ([BEGUN, "x WARN exited: router (terminated by SIGKILL; not expected)"], None),
        ([OTHER, "x WARN exited: web (terminated by SIGKILL; not expected)"], None),
        ([], None),
    ],
)
def test_the_log_says_how_a_process_ended(lines: list[str], how: str | None) -> None:
    assert deaths.in_log(lines, "web", 12) == how


def test_the_newest_process_of_a_pid_counts() -> None:
    first = [BEGUN, "x WARN exited: web (exit status 1; not expected)"]
    again = [*first, BEGUN, "x INFO stopped: web (exit status 0)"]
    assert deaths.in_log(again, "web", 12) is None


def test_a_death_is_told_once_and_not_of_one_who_was_ended_on_purpose(db: Database) -> None:
    def tell(pid: int, how: str, again: bool = True) -> bool:
        return deaths.tell(db, "receiver", "web", pid, how, NOW, again=again)

    with db.write() as connection:
        said = "web (pid 7) was restarted: it was stopped (SIGSTOP) and did nothing any more."
        events.append(connection, "restarted", said, NOW - timedelta(seconds=9))
    assert not tell(7, "killed by signal 9")
    assert tell(77, "killed by signal 9") and not tell(77, "killed by signal 9")
    assert tell(78, "", again=False) and tell(79, "exit code 0")
    with db.read() as connection:
        told = [one.sentence for one in events.latest(connection, 9, kind="died")]
    assert told == [
        "web (pid 79) ended (exit code 0) and was started again.",
        "web (pid 78) died and has not come back yet.",
        "web (pid 77) died (killed by signal 9) and was started again.",
    ]


def test_who_is_missing_is_so_since_the_first_look_without_him(tmp_path: Path) -> None:
    web, router = Part(1, "web", "S", 5), Part(2, "router", "S", 5)
    first = Look("up/1").then([web, router], NOW)
    second = first.then([web], NOW + timedelta(seconds=1))
    # the pid of the router is used again
    third = second.then([web, Part(2, "router", "S", 9)], NOW + timedelta(seconds=2))
    [missing] = [one for one in third.ran if one.missing_since]
    assert missing == Ran("router", 2, 5, (NOW + timedelta(seconds=1)).isoformat())
    assert missing not in third.without([missing]).ran
    who_runs.keep(tmp_path, third)
    assert who_runs.read(tmp_path) == third
    who_runs.forget(tmp_path)
    assert who_runs.read(tmp_path) == Look()
    for damaged in ("[]", '{"node": "up/1", "at": "yesterday", "ran": []}'):
        (tmp_path / "who-runs.json").write_text(damaged)
        assert who_runs.read(tmp_path) == Look()
