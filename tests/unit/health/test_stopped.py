"""Who of the node is stopped, and for how long: the kernel's word, and a clock that never jumps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from appliance.health.stopped import Part, Stopped, parts_below
from tests.kit.waiting import wait_for


def part(pid: int, state: str = "T") -> Part:
    return Part(pid, "web", state, started=pid * 10)


def test_one_that_is_stopped_for_the_whole_patience_is_named() -> None:
    stopped = Stopped()
    assert stopped.note([part(1), part(2, "S")], 100.0, 60.0) == []
    assert stopped.note([part(1), part(2)], 159.0, 60.0) == []
    assert stopped.note([part(1), part(2)], 160.0, 60.0) == [part(1)]


def test_one_that_went_on_meanwhile_begins_anew() -> None:
    stopped = Stopped()
    stopped.note([part(1)], 100.0, 60.0)
    stopped.note([part(1, "S")], 130.0, 60.0)
    assert stopped.note([part(1)], 170.0, 60.0) == []
    assert stopped.note([part(1)], 230.0, 60.0) == [part(1)]


def test_another_process_with_the_same_pid_is_another() -> None:
    stopped = Stopped()
    stopped.note([part(1)], 100.0, 60.0)
    assert stopped.note([Part(1, "web", "T", started=999)], 200.0, 60.0) == []


@pytest.fixture
def children() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A process that is named like one of ours, and a job's, each a child of this test."""
    sleep = "import time; time.sleep(600)"
    made = {
        "router": subprocess.Popen([sys.executable, "-c", sleep, "appliance.cli", "router"]),
        "job": subprocess.Popen([sys.executable, "-c", sleep]),
    }
    yield made
    for one in made.values():
        one.kill()
        one.wait()


def test_only_the_nodes_own_processes_are_looked_at(
    children: dict[str, subprocess.Popen[bytes]],
) -> None:
    def found() -> dict[int, tuple[str, str]]:
        return {one.pid: (one.role, one.state) for one in parts_below(os.getpid())}

    wait_for(lambda: children["router"].pid in found(), "it runs")
    for one in children.values():
        one.send_signal(signal.SIGSTOP)
    wait_for(lambda: found() == {children["router"].pid: ("router", "T")}, "one of ours is stopped")
