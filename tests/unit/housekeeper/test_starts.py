"""Who was started anew, and how often within an hour; also by one that was itself started anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.health import node_lock
from appliance.health.stopped import Part
from appliance.housekeeper import starts
from appliance.housekeeper.sampler import Sampler
from appliance.housekeeper.starts import Starts
from appliance.index import samples
from appliance.index.database import Database
from tests.kit.waiting import wait_for

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def part(role: str, pid: int) -> Part:
    return Part(pid, role, "S", started=pid)


def test_what_the_node_starts_with_counts_for_nothing() -> None:
    one = Starts()
    one.note("up/1", [part("web", 1), part("worker", 2)], NOW)
    assert one.in_an_hour(NOW, 2) == {}
    for pid in (3, 4, 5):
        one.note("up/1", [part("web", pid), part("worker", 2)], NOW + pid * MINUTE)
    assert one.in_an_hour(NOW + 10 * MINUTE, 2) == {"web": 3}
    assert one.in_an_hour(NOW + 64 * MINUTE, 2) == {"web": 1}
    one.note("up/2", [part("web", 9)], NOW + 11 * MINUTE)
    assert one.in_an_hour(NOW + 11 * MINUTE, 2) == {}, "a person started the node anew"


def test_the_processes_that_receive_count_as_often_as_the_receiver() -> None:
    one = Starts()
    one.note("up/1", [part("receiving process", pid) for pid in (1, 2)], NOW)
    one.note("up/1", [part("receiving process", pid) for pid in (3, 4)], NOW)
    assert one.in_an_hour(NOW, 2) == {"receiving process": 1}


def test_counting_goes_on_after_a_start_of_the_housekeeper_itself(tmp_path: Path) -> None:
    """A node of two processes: this test holds its lock, its child is named like a router."""
    run = tmp_path / "run"
    run.mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(600)", "appliance.cli", "router"]

    def counted() -> int:
        return starts.look(run, 2, datetime.now(UTC)).get("router", 0)

    assert starts.look(run, 2, NOW) == {}, "no node runs"
    with node_lock.held(run):
        child = subprocess.Popen(command)
        try:
            wait_for(lambda: Path(f"/proc/{child.pid}/cmdline").read_bytes().count(b"router"), "up")
            assert counted() == 0
            for times in (1, 2):
                child.kill()
                child.wait()
                child = subprocess.Popen(command)
                wait_for(lambda times=times: counted() == times, f"{times} are counted")
            (run / "starts.json").write_text("{")
            assert counted() == 0, "a file that cannot be read counts from now on"
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()


def test_the_first_look_only_begins_to_count(db: Database, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    one = Sampler(db, layout)

    def kept() -> list[datetime]:
        with db.read() as connection:
            return [s.at for s in samples.series(connection, "disk_free_bytes", NOW - 30 * MINUTE)]

    one.sample(NOW)
    assert kept() == []
    one.sample(NOW + 5 * MINUTE)
    assert kept() == [NOW + 5 * MINUTE]
    one.sample(NOW)  # the clock was set back: from now on it counts anew
    assert kept() == [NOW + 5 * MINUTE]
    week = timedelta(days=7)
    one.sample(NOW + 6 * MINUTE + week)
    assert kept() == [NOW + 6 * MINUTE + week], "what is older than a week went"
