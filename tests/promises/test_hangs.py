"""Show 4: what is stopped (SIGSTOP) is noticed and mended, and the innocent are left alone."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.flow import Town
from tests.kit.waiting import wait_for

PATIENCE_SECONDS = 60
MORE_THAN_THE_WEB_TAKES = 210


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A node whose heartbeat is short, a PACS behind it, and studies that flow."""
    town = Town(tmp_path_factory.mktemp("hangs"))
    try:
        town.start()
        yield town
    finally:
        town.stop()


def is_gone(process: psutil.Process) -> bool:
    """Say whether a process has ended; a stopped one has not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def children_of_receiver(town: Town) -> list[psutil.Process]:
    """List the processes that receive."""
    found = town.node.processes("receiver")
    mine = {one.pid for one in found}
    return [one for one in found if one.ppid() in mine]


def stopped(town: Town, role: str) -> psutil.Process:
    """Stop one process of the node, by what it does there."""
    found = town.node.processes("receiver" if role.startswith("receiving") else role)
    children = children_of_receiver(town)
    if role.startswith("receiving"):
        one = children[int(role[-1])]
    else:
        [one] = [process for process in found if process not in children]
    one.send_signal(signal.SIGSTOP)
    wait_for(lambda: one.status() == psutil.STATUS_STOPPED, f"{role} is stopped")
    return one


def restarts_told(town: Town) -> list[str]:
    """List the sentences about restarts, newest first."""
    told: list[dict[str, str]] = town.node.cli_json("events", "--kind", "restarted")
    return [one["sentence"] for one in told]


# Without supervisord, whose end is the end of all of them.
TOGETHER = (
    "receiver", "receiving process 0", "receiving process 1", "web", "worker", "dispatcher",
    "router", "housekeeper", "gearmand",
)  # fmt: skip
# Each by itself takes a while; all of them together stand below.
BY_ITSELF = ["gearmand", *(
    pytest.param(role, marks=pytest.mark.long)
    for role in (*TOGETHER, "supervisord") if role != "gearmand"
)]  # fmt: skip


@pytest.mark.parametrize("role", BY_ITSELF)
def test_show_4_a_process_that_is_stopped_is_started_again(town: Town, role: str) -> None:
    hung = stopped(town, role)
    wait_for(lambda: is_gone(hung), f"{role} that hung is gone", PATIENCE_SECONDS)
    told = f"{role.rstrip(' 01')} (pid {hung.pid}) was restarted"
    wait_for(lambda: any(told in one for one in restarts_told(town)), "it is told")
    wait_for(lambda: len(children_of_receiver(town)) == 2, "two receive", PATIENCE_SECONDS)
    name = "receiver" if role.startswith("receiving") else role
    wait_for(lambda: town.node.processes(name), f"{name} runs again", PATIENCE_SECONDS)
    wait_for(town.node.is_ready, "the node is ready", PATIENCE_SECONDS)


def test_show_4_what_answers_nobody_is_restarted_by_the_housekeeper(town: Town) -> None:
    [hung] = town.node.processes("web")
    with contextlib.ExitStack() as connections:
        for _ in range(MORE_THAN_THE_WEB_TAKES):
            one = socket.create_connection(("127.0.0.1", town.node.web_port), 10)
            connections.enter_context(one)
        wait_for(lambda: is_gone(hung), "the web that answers nobody is gone", 120)
    wait_for(town.node.is_ready, "the node is ready", PATIENCE_SECONDS)
    said = wait_for(
        lambda: [one for one in restarts_told(town) if "3 times in a row" in one], "it is told"
    )
    assert "web was restarted: 3 times in a row it gave no answer" in said[0]


@pytest.mark.timeout(300)
def test_show_4_all_of_them_stopped_at_once_lose_nothing(town: Town) -> None:
    flow = town.flow()
    wait_for(lambda: flow.studies > 1, "studies flow", PATIENCE_SECONDS)
    hung = [stopped(town, role) for role in TOGETHER]
    wait_for(lambda: all(map(is_gone, hung)), "those that hung are gone", PATIENCE_SECONDS)
    wait_for(town.node.is_ready, "the node is ready", PATIENCE_SECONDS)
    seen = flow.studies
    wait_for(lambda: flow.studies > seen + 1, "studies flow again", PATIENCE_SECONDS)
    assert town.settle(flow) == []
    assert town.results_for_every_study()


def holds_the_index(town: Town) -> bool:
    """Say whether somebody holds SQLite's lock for writing just now."""
    file = town.node.layout.root / "index.sqlite3"
    with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as one:
        try:
            one.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        one.execute("ROLLBACK")
        return False


def stopped_in_a_write(town: Town) -> psutil.Process:
    """Stop a receiving process in the middle of a transaction; it is let go on until it is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for one in children_of_receiver(town):
            # On a busy machine it may have been ended for being stopped, before it was let go on.
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGSTOP)
                wait_for(lambda one=one: one.status() == psutil.STATUS_STOPPED, "it is stopped")
                # Another's transaction ends by itself within a moment.
                if holds_the_index(town) and not any(_ends(town) for _ in range(40)):
                    return one
                one.send_signal(signal.SIGCONT)
                time.sleep(0.002)
    raise AssertionError("no process was caught in a write")


def _ends(town: Town) -> bool:
    time.sleep(0.02)
    return not holds_the_index(town)


@pytest.mark.timeout(300)
def test_show_4_one_stopped_in_a_write_is_ended_and_nobody_else(town: Town) -> None:
    flow = town.flow()
    wait_for(lambda: flow.studies > 1, "studies flow", PATIENCE_SECONDS)
    hung = stopped_in_a_write(town)
    others = {one.pid for one in town.node.family()} - {hung.pid}
    wait_for(lambda: is_gone(hung), "the one that hung is gone", PATIENCE_SECONDS)
    wait_for(lambda: not holds_the_index(town), "the index can be written")
    seen = flow.studies
    wait_for(lambda: flow.studies > seen + 1, "studies flow again", PATIENCE_SECONDS)
    assert town.settle(flow) == []
    assert town.results_for_every_study()
    parts = ("receiver", "web", "worker", "dispatcher", "router", "housekeeper", "gearmand")
    for name in parts:
        before = {one.pid for one in town.node.processes(name)}
        assert before & others, f"{name} was restarted, though it did nothing wrong"
