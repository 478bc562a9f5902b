"""Each process that is killed (kill -9) comes back, and one event tells of it; I2, I7."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pydicom
import pytest

from appliance.index import arrivals
from tests.kit.dicom import ct_study, write_study
from tests.kit.node import Node
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for
from tests.service.receiver.peer import associate

PATIENCE_SECONDS = 90
RUN_BY_SUPERVISORD = (
    "receiver", "dispatcher", "worker", "router", "web", "gearmand", "housekeeper",
)  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that runs, for all tests of this module."""
    one = Node(tmp_path_factory.mktemp("deaths") / "node", {"worker": {"docker": "never"}}, ())
    one.start()
    one.add_stream("QUICK", QUICK)
    one.wait_for_stream("QUICK")
    yield one
    one.stop()


def told(node: Node, kind: str = "died") -> list[str]:
    """List the sentences of this kind of event, newest first."""
    return [one["sentence"] for one in node.cli_json("events", "--kind", kind)]


def top_of(node: Node, name: str) -> psutil.Process:
    """Give the process of a program that supervisord runs."""
    found = node.processes(name)
    [top] = [one for one in found if one.ppid() not in {other.pid for other in found}]
    return top


def test_one_event_tells_of_each_that_was_killed(node: Node) -> None:
    wait_for((node.layout.run / "who-runs.json").exists, "the housekeeper has looked")
    killed = {}
    for name in RUN_BY_SUPERVISORD:
        one = top_of(node, name)
        killed[name] = one.pid
        one.kill()
    want = {
        f"{name} (pid {pid}) died (killed by signal 9) and was started again."
        for name, pid in killed.items()
    }
    wait_for(lambda: want <= set(told(node)), f"it is told of {killed}", PATIENCE_SECONDS)
    wait_for(node.is_ready, "the node is ready", PATIENCE_SECONDS)
    about = [one for one in told(node) if "supervisord" not in one]
    assert sorted(about) == sorted(want), "each once, and nobody else"
    assert told(node, "restarted") == []


def test_a_study_that_our_own_process_broke_off_is_not_the_senders(
    node: Node, tmp_path: Path
) -> None:
    study = ct_study(2)
    assoc = associate(node, "QUICK")  # type: ignore[arg-type]
    first = pydicom.dcmread(write_study(study, tmp_path)[0])
    assert assoc.send_c_store(first).Status == 0x0000
    [name] = wait_for(lambda: arrivals.receiving_processes(node.db), "the row is there")
    pid = int(name.split("/")[1])
    os.kill(pid, signal.SIGKILL)
    want = f"receiving process (pid {pid}) died (killed by signal 9) and was started again."
    wait_for(lambda: want in told(node), "it is told of", PATIENCE_SECONDS)
    assoc.abort(block=False)
    node.wait_for_jobs(1, "succeeded", ae_title="QUICK")
    why = node.cli("why", str(study[0].StudyInstanceUID)).stdout
    assert "after the node's own receiving process ended in the middle of an association" in why
    assert "aborted" not in why
    assert told(node).count(want) == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_supervisord_and_brookbox_up_are_told_of_too(node: Node) -> None:
    before = told(node)
    [supervisord] = node.processes("supervisord")
    supervisord.kill()
    want = f"supervisord (pid {supervisord.pid}) died (killed by signal 9) and was started again."
    wait_for(lambda: want in told(node), "it is told of", PATIENCE_SECONDS)
    wait_for(node.is_ready, "the node is ready", PATIENCE_SECONDS)
    first = (node.layout.run / "who-runs.json").read_text()
    wait_for(
        lambda: (node.layout.run / "who-runs.json").read_text() != first, "they are looked at", 60
    )
    assert told(node) == [want, *before], "its processes stopped in order"
    assert node.process is not None
    family = node.family()
    node.process.kill()
    node.process.wait()
    psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
    node.start()
    wait_for(lambda: len(told(node)) == len(before) + 2, "the bad end is told", PATIENCE_SECONDS)
    assert told(node)[0].startswith("The node had not been stopped in order before this start")
    node.stop()
    node.start()
    wait_for((node.layout.run / "who-runs.json").exists, "the housekeeper has looked")
    assert len(told(node)) == len(before) + 2, "this time it was stopped in order"
