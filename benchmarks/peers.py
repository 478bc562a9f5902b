"""Those who are compared: Brookbox as it is shipped, DCMTK's storescp and storescu, Orthanc."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.index.totals import totals
from appliance.settings import Settings
from benchmarks.machine import find, need
from benchmarks.plan import NotMeasured
from tests.kit import node, orthanc
from tests.kit.waiting import free_port, is_listening, wait_for

BROOKBOX = "Brookbox"
_AE_TITLE = "BENCH"
# What the tests make quick goes back to what is shipped, but the reserve of free space.
_AS_SHIPPED = {
    section: {name: getattr(getattr(Settings(), section), name) for name in values}
    for section, values in node.QUICK.items()
    if section != "receiver"
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """One that listens; `kept` counts the instances that it has."""

    name: str
    ae_title: str
    port: int
    kept: Callable[[], int]


@contextmanager
def nagle(is_off: bool) -> Iterator[str]:
    """Start DCMTK's programs and Orthanc without Nagle's algorithm or as they come: with it.

    Gives what that is in words.  Brookbox's sockets never have it.
    """
    before = os.environ.pop("TCP_NODELAY", None)
    if is_off:
        os.environ["TCP_NODELAY"] = "1"
    try:
        yield "TCP_NODELAY on all sockets" if is_off else "TCP_NODELAY on Brookbox's sockets only"
    finally:
        os.environ.pop("TCP_NODELAY", None)
        if before is not None:
            os.environ["TCP_NODELAY"] = before


def shipped_node(folder: Path, docker: str, *streams: str) -> node.Node:
    """Make a whole node with the settings that are shipped; `docker` is worker.docker."""
    need("gearmand", "gearman-job-server")
    need("echoscu", "dcmtk")
    return node.Node(folder, {**_AS_SHIPPED, "worker": {"docker": docker}}, streams)


@contextmanager
def brookbox(folder: Path) -> Iterator[Receiver]:
    """Lend a node with one stream, whose studies stay open so that no job disturbs."""
    one = shipped_node(folder, "never")
    one.add_stream(_AE_TITLE, "", quiet_seconds=86400)
    one.start()
    try:
        one.wait_for_stream(_AE_TITLE)
        yield Receiver(BROOKBOX, _AE_TITLE, one.port, lambda: _rows(one))
    finally:
        one.stop()


@contextmanager
def storescp(name: str, folder: Path, *options: str) -> Iterator[Receiver]:
    """Lend DCMTK's storescp."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [need("storescp", "dcmtk"), *options, "-od", str(folder), str(port)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(lambda: is_listening(port), "storescp listens")
            yield Receiver(name, _AE_TITLE, port, lambda: sum(1 for _ in folder.iterdir()))
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def orthancs(folder: Path) -> Iterator[list[Receiver]]:
    """Lend an Orthanc where there is one: a list of one, or of none."""
    if find("Orthanc") is None:
        print("Orthanc is left out: apt-get install orthanc")
        yield []
        return
    with orthanc.running(folder) as one:
        yield [Receiver("Orthanc", one.ae_title, one.port, lambda: one.count("instances"))]


def storescu(receiver: Receiver, parts: Sequence[Sequence[Path]]) -> None:
    """Send by DCMTK's storescu, one for each part at once; NotMeasured unless all is taken."""
    words = [need("storescu", "dcmtk"), "-aec", receiver.ae_title, "-aet", "SENDER"]
    words += ["127.0.0.1", str(receiver.port)]
    pipe, same = subprocess.PIPE, subprocess.STDOUT
    commands = [[*words, *map(str, part)] for part in parts]
    running = [subprocess.Popen(one, stdout=pipe, stderr=same) for one in commands]
    for one in running:
        said, _ = one.communicate()
        if one.returncode != 0:
            raise NotMeasured(f"storescu to {receiver.name} failed: {said.decode()[-1000:]}")


def _rows(one: node.Node) -> int:
    with one.db.read() as connection:
        return totals(connection).kept
