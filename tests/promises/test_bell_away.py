"""FT-16, FT-17: gearmand is away, hangs or cannot start; the node receives and works on."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checker import Acknowledged, Evidence, check
from tests.kit.dicom import ct_study, write_study
from tests.kit.gearmand import Gearmand
from tests.kit.node import Node
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for


@pytest.fixture
def away(tmp_path: Path, gearmand: Gearmand) -> Iterator[Node]:
    """A node whose gearmand the test starts and kills; workers hardly look by themselves."""
    queue = {"start_gearmand": False, "servers": [gearmand.server], "ring_again_seconds": 600}
    node = Node(tmp_path / "node", {"worker": {"docker": "never"}, "queue": queue}, ())
    node.start()
    node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
    node.wait_for_stream("QUICK")
    yield node
    node.stop()


def page(node: Node, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}{path}", timeout=30) as answer:
        text: bytes = answer.read()
    return text.decode()


def send(node: Node, folder: Path) -> list[Acknowledged]:
    """Send a study; nothing of it is refused."""
    files = write_study(ct_study(2), folder)
    report = node.send(files, "QUICK")
    assert len(report.acknowledged) == 2, report.text
    return [Acknowledged(file, "QUICK") for file in files]


def violations(node: Node, told: list[Acknowledged]) -> list[str]:
    return check(Evidence(node.layout.root, node.db, told, (), [node.out]))


def test_ft_16_without_gearmand_studies_are_received_and_wait_with_a_reason(
    away: Node, gearmand: Gearmand, tmp_path: Path
) -> None:
    told = send(away, tmp_path / "before")
    away.wait_for_jobs(1, "succeeded")
    gearmand.kill()
    for number in range(3):
        told += send(away, tmp_path / f"away{number}")
    jobs = away.wait_for_jobs(3, "queued")
    wait_for(
        lambda: all("gearmand does not answer" in away.job(job.id).wait_reason for job in jobs),
        "the jobs say what they wait for",
    )
    wait_for(lambda: "gearmand does not answer" in page(away), "every page says so")
    assert "gearmand does not answer" in page(away, f"/jobs/{jobs[0].id}")
    says = [one["says"] for one in away.cli_json("status")["processes"]]
    assert any("gearmand does not answer" in one for one in says), says
    told += send(away, tmp_path / "still")
    gearmand.start()
    away.wait_for_jobs(5, "succeeded", seconds=90)
    wait_for(lambda: "gearmand does not answer" not in page(away), "the banner is gone")
    assert [job.attempt for job in away.jobs()] == [1] * 5
    wait_for(lambda: violations(away, told) == [], "all is done, and nothing is lost")


def test_ft_17_a_gearmand_that_hangs_holds_no_c_store_up(
    away: Node, gearmand: Gearmand, tmp_path: Path
) -> None:
    os.kill(gearmand.pid, signal.SIGSTOP)
    try:
        told = send(away, tmp_path / "one")
        told += send(away, tmp_path / "two")
        jobs = away.wait_for_jobs(2, "queued")
        wait_for(
            lambda: "gearmand does not answer" in away.job(jobs[0].id).wait_reason,
            "the ring was given up",
        )
        assert page(away)
    finally:
        os.kill(gearmand.pid, signal.SIGCONT)
    away.wait_for_jobs(2, "succeeded", seconds=90)
    wait_for(lambda: violations(away, told) == [], "all is done, and nothing is lost")


@pytest.mark.long
def test_ft_17_a_gearmand_that_cannot_start_is_named_and_started_when_it_can(
    tmp_path: Path,
) -> None:
    """It keeps no queue file that could be locked or corrupt; its port can be taken."""
    node = Node(tmp_path / "node", {"worker": {"docker": "never"}}, ())
    node.start()
    try:
        node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
        node.wait_for_stream("QUICK")
        words = node.processes("gearmand")[0].cmdline()
        assert not {"-q", "--queue-type"} & set(words), "a queue file is one more thing to break"
        with _take_port(node):
            told = send(node, tmp_path / "one")
            wait_for(lambda: "gearmand" in node.cli("doctor").stdout, "doctor names it", 60)
        node.wait_for_jobs(1, "succeeded", seconds=90)
        wait_for(lambda: node.processes("gearmand"), "gearmand runs again", 60)
        assert violations(node, told) == []
    finally:
        node.stop()


def _take_port(node: Node) -> socket.socket:
    """Kill gearmand and listen on its port before the next one does."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def took() -> bool:
        for one in node.processes("gearmand"):
            one.kill()
        try:
            taken.bind(("127.0.0.1", node.gearmand_port))
            taken.listen()
        except OSError:
            return False
        return True

    wait_for(took, "the port is taken")
    return taken
