"""Studies that come and go leave nothing behind in the processes (Show 3, I8)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from appliance.index import job_list
from appliance.worker.container import Docker
from tests.faults.flow import Flow, Town
from tests.kit.node import CHECKOUT
from tests.kit.waiting import wait_for
from tests.promises.growth import Growth

WARM_UP = 20  # jobs

# Imported by every Python process of the node before its own code, by the test's will alone.
LEAKING = """
import os, sys
if "worker" in sys.orig_argv:
    import pathlib
    from appliance.worker import lanes
    gate, whole, kept = pathlib.Path({gate!r}), lanes.run_job, []
    def leaking(*args):
        if gate.exists():
            kept.append(os.urandom({size}))
        whole(*args)
    lanes.run_job = leaking
"""


@contextmanager
def town_with(folder: Path, stream: str, docker: str = "never") -> Iterator[Town]:
    """Lend a town whose node has one shipped stream more."""
    town = Town(folder, docker)
    town.node.streams = (stream,)
    try:
        town.start()
        town.node.wait_for_stream(stream.upper())
        fill_gearmand(town)
        yield town
    finally:
        town.stop()


def fill_gearmand(town: Town) -> None:
    """Let gearmand take what it keeps: the memory of up to 500 connections that were closed."""
    for _ in range(600):
        with socket.create_connection(("127.0.0.1", town.node.gearmand_port), 10) as connection:
            connection.sendall(b"version\r\n")
            assert connection.recv(100).startswith(b"OK")


def measured(town: Town, called: str, slices: int, count: int, every: int = 5) -> Growth:
    """Send so many studies, and look at all processes after every few of them."""
    growth = Growth(town.node)
    before = _ended(town)
    flow = Flow(
        town.node, town.folder / f"{called}-{before}", called, most_waiting=4, slices=slices
    ).start()
    for jobs in range(every, count + 1, every):
        wait_for(lambda n=jobs: _ended(town) - before >= n, f"{jobs} jobs ended", 120)
        growth.sample(jobs)
    assert town.settle(flow) == []
    return growth


def _ended(town: Town) -> int:
    with town.node.db.read() as connection:
        done = job_list.Filter(states=("succeeded",))
        return len(job_list.jobs_matching(connection, done, 10_000))


# In a few jobs on a busy machine the allocator's own moves are larger than ten kilobytes a job.
@pytest.mark.parametrize(
    ("kilobytes", "jobs", "every"),
    [(100, 24, 2), pytest.param(10, 150, 5, marks=pytest.mark.long)],
)
@pytest.mark.timeout(1800)
def test_a_leak_of_so_much_a_job_is_found_and_nothing_else_is(
    tmp_path: Path, kilobytes: int, jobs: int, every: int
) -> None:
    town = Town(tmp_path)
    gate = tmp_path / "leak"
    (tmp_path / "first").mkdir()
    leaking_worker = LEAKING.format(gate=str(gate), size=kilobytes * 1000)
    (tmp_path / "first" / "sitecustomize.py").write_text(leaking_worker)
    town.node.add_to_environment(PYTHONPATH=f"{tmp_path / 'first'}:{CHECKOUT}")
    try:
        town.start()
        fill_gearmand(town)
        measured(town, "QUICK", 2, WARM_UP)
        sound = measured(town, "QUICK", 2, jobs, every=every)
        print(f"\n{sound.table()}")
        gate.touch()
        leaking = measured(town, "QUICK", 2, jobs, every=every)
        print(f"\n{leaking.table()}")
    finally:
        town.stop()
    most = kilobytes * 800
    assert sound.findings(jobs // 3, "worker", most_bytes_a_job=most) == []
    found = leaking.findings(jobs // 3, "worker", most_bytes_a_job=most)
    assert all(one.startswith("worker: ") for one in found)
    assert [one for one in found if one.endswith("bytes more with each job")]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_500_studies_through_echo_leave_no_growth(tmp_path: Path) -> None:
    with town_with(tmp_path, "echo") as town:
        measured(town, "ECHO", 10, WARM_UP)
        growth = measured(town, "ECHO", 10, 500)
        print(f"\n{growth.table()}")
        assert growth.findings(100, "worker") == []
        later = growth.between(250, 500)
        print(f"\nthe second half:\n{later.table()}")
        assert later.findings(100) == []


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_200_studies_through_echo_in_containers_leave_no_growth(
    shipped_images: Docker, tmp_path: Path
) -> None:
    with town_with(tmp_path, "echo", docker="auto") as town:
        measured(town, "ECHO", 10, WARM_UP)
        interfaces = len(psutil.net_if_addrs())
        growth = measured(town, "ECHO", 10, 200)
        print(f"\n{growth.table()}")
        assert {job.executor for job in town.node.jobs("ECHO")} == {"container"}
        assert growth.findings(100, "worker") == []
        label = f"brookbox.node={town.node.layout.root.absolute()}"
        wait_for(lambda: shipped_images.labelled(label) == [], "no container is left")
        # Others may use the machine's engine meanwhile.
        wait_for(lambda: len(psutil.net_if_addrs()) <= interfaces, "no interface is left", 60)
