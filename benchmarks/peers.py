"""Those who receive: Brookbox as shipped, DCMTK's storescp, Orthanc, pynetdicom's storescp."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from appliance import settings
from appliance.index import catalog
from benchmarks import account
from benchmarks.association import Address
from benchmarks.machine import need
from benchmarks.plan import NotMeasured
from tests.kit import node, orthanc
from tests.kit.waiting import free_port, is_listening, wait_for

BROOKBOX = "brookbox"
_AE_TITLE = "BENCH"
# DCMTK's programs, and Orthanc with them, have Nagle's algorithm on unless this is set.
NODELAY = {"TCP_NODELAY": "1"}
# name -> options of DCMTK's storescp; +B writes the data set as it comes, unread
_STORESCP = {
    "dcmtk": (),
    "dcmtk-fork": ("--fork",),
    "dcmtk-raw": ("+B", "-pdu", "131072"),
    "dcmtk-fork-raw": ("--fork", "+B", "-pdu", "131072"),
    "dcmtk-su": ("-pdu", "131072", "-su", "S"),
}
# What the tests make quick goes back to what is shipped, but the reserve of free space.
_AS_SHIPPED = {
    section: {name: getattr(getattr(settings.Settings(), section), name) for name in values}
    for section, values in node.QUICK.items()
    if section != "receiver"
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """One that listens.

    `folder` is where its instances lie, `processes` lists those that receive, `all_processes`
    those that belong to it.  `rows` gives those of some SOP Instance UIDs that its index knows,
    each with the digest that stands there, "" as long as there is none; None where nobody asks.
    """

    name: str
    command: str
    address: Address
    folder: Path
    processes: Callable[[], set[int]]
    all_processes: Callable[[], set[int]]
    rows: Callable[[Sequence[str]], dict[str, str]] | None = None

    @property
    def forks(self) -> bool:
        """Say whether it makes a process for each association."""
        return "--fork" in self.command


@contextmanager
def receiver(
    name: str, folder: Path, durability: str, *, nodelay: bool = True, address: str = "127.0.0.1"
) -> Iterator[Receiver]:
    """Lend the receiver of a name; `nodelay` is the peers', the rest Brookbox's."""
    environment = NODELAY if nodelay else {}
    if name == BROOKBOX:
        with brookbox(folder, durability, address=address) as (one, _):
            yield one
    elif name == "orthanc":
        with _orthanc(folder, environment) as one:
            yield one
    elif name == "pynetdicom":
        command = [sys.executable, "-m", "pynetdicom", "storescp", "-q"]
        with listening(name, command, folder, environment) as one:
            yield one
    else:
        command = [need("storescp", "dcmtk"), "-q", *_STORESCP[name]]
        with listening(name, command, folder, environment) as one:
            yield one


def shipped_node(
    folder: Path, docker: str, *streams: str, receiver: dict[str, Any] | None = None
) -> node.Node:
    """Make a whole node with the settings that are shipped; `docker` is worker.docker."""
    need("gearmand", "gearman-job-server")
    need("echoscu", "dcmtk")
    changed = {**_AS_SHIPPED, "worker": {"docker": docker}, "receiver": receiver or {}}
    return node.Node(folder, changed, streams)


@contextmanager
def brookbox(folder: Path, durability: str, **more: Any) -> Iterator[tuple[Receiver, node.Node]]:
    """Lend a node with one stream, whose studies stay open so that no job disturbs.

    `more` are further settings of its receiver.
    """
    wanted = {"durability": durability, "max_associations": 100,
              "max_connections_per_address": 100, **more}  # fmt: skip
    known = {one.name for one in fields(settings.Receiver)}
    told = {name: value for name, value in wanted.items() if name in known}
    one = shipped_node(folder, "never", receiver=told)
    one.add_stream(_AE_TITLE, "", quiet_seconds=86400)
    try:
        try:
            one.start()
            one.wait_for_stream(_AE_TITLE)
        except AssertionError as problem:  # as the tests' kit says it
            raise NotMeasured(f"the node does not run: {problem}") from problem
        shown = ", ".join(f"receiver.{name}: {value}" for name, value in told.items())
        yield (
            Receiver(
                BROOKBOX, f"brookbox up ({shown})", Address(one.port, _AE_TITLE),
                one.layout.studies,
                lambda: {process.pid for process in one.processes("receiver")},
                lambda: {process.pid for process in one.family()},
                lambda uids: _rows(one, uids),
            ),
            one,
        )  # fmt: skip
    finally:
        one.stop()


@contextmanager
def listening(
    name: str, command: Sequence[str], folder: Path, environment: dict[str, str]
) -> Iterator[Receiver]:
    """Lend a storescp, whose command line only lacks the folder and the port."""
    folder.mkdir(parents=True)
    port = free_port()
    whole = [*command, "-od", str(folder), str(port)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(whole, stdout=log, stderr=log, env=_with(environment))
        try:
            wait_for(lambda: is_listening(port), f"{name} listens")
            shown = _shown([*command, "-od", "OUT", "PORT"], environment)
            tree = _tree_of(process.pid)
            yield Receiver(name, shown, Address(port, _AE_TITLE), folder, tree, tree)
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def _orthanc(folder: Path, environment: dict[str, str]) -> Iterator[Receiver]:
    program = need("Orthanc", "orthanc")
    before = account.with_children([os.getpid()])
    with variables(environment), orthanc.running(folder) as one:
        [pid] = [
            pid
            for pid in account.with_children([os.getpid()]) - before
            if Path(f"/proc/{pid}/comm").read_text().strip() == "Orthanc"
        ]
        shown = _shown([program, "orthanc.json"], environment)
        shown += " (SyncStorageArea and all else as by default)"
        tree = _tree_of(pid)
        where = Address(one.port, one.ae_title)
        yield Receiver("orthanc", shown, where, folder / "db", tree, tree)


@contextmanager
def variables(environment: dict[str, str]) -> Iterator[None]:
    """Start what is started with this environment, and TCP_NODELAY only where it says so."""
    before, wanted = dict(os.environ), _with(environment)
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def storescu(
    address: Address, files: Sequence[Path], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start DCMTK's storescu with files."""
    command = [need("storescu", "dcmtk"), "-q", "-aec", address.called_ae_title, "-aet", "SENDER"]
    command += [address.host, str(address.port)]
    if address.namespace is not None:
        command = [need("ip", "iproute2"), "netns", "exec", address.namespace.name, *command]
    pipe, same = subprocess.PIPE, subprocess.STDOUT
    command += map(str, files)
    return subprocess.Popen(command, stdout=pipe, stderr=same, env=_with(environment))


def finish(process: subprocess.Popen[bytes], whom: str) -> None:
    """Wait for a sender; NotMeasured when not everything was taken."""
    said, _ = process.communicate()
    if process.returncode != 0:
        raise NotMeasured(f"sending to {whom} failed: {said.decode('utf-8', 'replace')[-1000:]}")


def _with(environment: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in NODELAY}
    return {**kept, **environment}


def _shown(command: Sequence[str], environment: dict[str, str]) -> str:
    words = [f"{name}={value}" for name, value in environment.items()]
    return " ".join([*words, Path(command[0]).name, *command[1:]])


def _tree_of(pid: int) -> Callable[[], set[int]]:
    return lambda: account.with_children([pid])


def _rows(one: node.Node, sop_instance_uids: Sequence[str]) -> dict[str, str]:
    with one.db.read() as connection:
        found = catalog.find_instances(connection, sop_instance_uids)
    return {instance.sop_instance_uid: instance.dataset_sha256 for instance in found}
