"""`brookbox doctor` names each thing that is wrong, and what to type next."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import require
from tests.kit.node import Node
from tests.kit.waiting import wait_for


@pytest.fixture
def stopped(tmp_path: Path) -> Node:
    """A node that was never started, but for its folders."""
    node = Node(tmp_path / "home")
    node.home.mkdir()
    node.write_settings()
    return node


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("doctor")).start()
    yield node
    node.stop()


def ask(node: Node) -> tuple[bool, dict[str, list[dict[str, Any]]]]:
    """Ask the doctor; its verdict, and its findings by what they are about."""
    done = node.cli("--json", "doctor")
    answer = json.loads(done.stdout)
    assert (done.returncode == 0) is answer["good"], done.stderr
    by_about: dict[str, list[dict[str, Any]]] = {}
    for one in answer["findings"]:
        assert one["level"] == "ok" or one["remedy"], one
        by_about.setdefault(one["about"], []).append(one)
    return answer["good"], by_about


def only(found: dict[str, list[dict[str, Any]]], about: str, level: str) -> dict[str, Any]:
    some = [one for one in found.get(about, []) if one["level"] == level]
    assert some, f"nothing {level} about {about}: {found}"
    return some[0]


def test_a_stopped_node_is_well_but_for_that_it_does_not_run(stopped: Node) -> None:
    good, found = ask(stopped)
    assert good
    assert only(found, "data_root", "warn")["remedy"].startswith("brookbox up")
    assert only(found, "port of receiver", "ok")
    assert only(found, "stream MONTAGE", "ok")


def test_a_running_node_is_well(running: Node) -> None:
    wait_for(lambda: ask(running)[0], "the doctor is content", 60)
    _, found = ask(running)
    for name in ("receiver", "dispatcher", "worker", "router", "housekeeper", "web", "gearmand"):
        assert only(found, name, "ok")


def test_gearmand_stopped(running: Node) -> None:
    conf = running.layout.run / "supervisord.conf"
    control = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(conf)]
    subprocess.run([*control, "stop", "gearmand"], check=True, timeout=60, capture_output=True)
    try:
        good, found = ask(running)
        assert not good
        one = only(found, "gearmand", "wrong")
        assert "does not answer" in one["sentence"] and "wait in the index" in one["sentence"]
        assert "gearmand.log" in one["remedy"]
    finally:
        subprocess.run(
            [*control, "start", "gearmand"], check=False, timeout=60, capture_output=True
        )


def test_docker_stopped(stopped: Node) -> None:
    stopped.settings = {"worker": {"docker_url": f"unix://{stopped.home}/dead.sock"}}
    stopped.write_settings()
    _, found = ask(stopped)
    one = only(found, "docker", "warn")  # the shipped streams run without
    assert "does not answer" in one["sentence"] and "dead.sock" in one["sentence"]
    assert "systemctl start docker" in one["remedy"]
    info = stopped.home / "streams" / "montage" / "info.json"
    info.write_text(info.read_text().replace('"trusted": true', '"trusted": false'))
    good, found = ask(stopped)
    assert not good and only(found, "docker", "wrong")
    assert "cannot run without Docker" in only(found, "stream MONTAGE", "warn")["sentence"]


def test_docker_stopped_does_not_hinder_a_host_stream_that_root_confines(stopped: Node) -> None:
    require.root()
    folder = stopped.home / "streams" / "host"
    folder.mkdir()
    (folder / "info.json").write_text('{"AETitle": "HOST", "name": "host", "enabled": 1}')
    (folder / "work.sh").write_text("#!/bin/bash\n")
    (folder / "work.sh").chmod(0o755)
    stopped.settings = {"worker": {"docker_url": f"unix://{stopped.home}/dead.sock"}}
    stopped.write_settings()
    _, found = ask(stopped)
    assert [one["level"] for one in found.get("stream HOST", [])] in ([], ["ok"])


def test_an_image_is_missing(stopped: Node) -> None:
    require.program("docker", "docker.io")
    info = stopped.home / "streams" / "montage" / "info.json"
    text = info.read_text().replace('"trusted": true', '"trusted": false')
    info.write_text(text.replace("brookbox/montage:1.0.0", "brookbox/nowhere:9"))
    good, found = ask(stopped)
    assert not good
    one = only(found, "image of MONTAGE", "wrong")
    assert "brookbox/nowhere:9 is not on this machine" in one["sentence"]
    assert one["remedy"] == "brookbox streams build MONTAGE"
    told = stopped.cli("streams", "check", "montage").stdout
    missing = "brookbox/nowhere:9 is not on this machine. Try: brookbox streams"
    assert f"note  montage: {missing} build MONTAGE" in told
    (info.parent / "Dockerfile").unlink()
    assert f"{missing} pull MONTAGE" in stopped.cli("streams", "check", "montage").stdout
    _, found = ask(stopped)
    remedies = {one["remedy"] for one in found["image of MONTAGE"]}
    assert remedies == {"brookbox streams pull MONTAGE"}, "nothing to build it from"


def test_the_disk_is_nearly_full(stopped: Node) -> None:
    require.root()
    data = stopped.home / "data"
    data.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", str(data)]
    subprocess.run(mount, check=True)
    try:
        assert only(ask(stopped)[1], "space", "ok")  # the reserve is 50 MB of 64
        (data / "filler").write_bytes(bytes(30_000_000))
        good, found = ask(stopped)
        assert not good
        one = only(found, "space", "wrong")
        assert "new associations are refused" in one["sentence"] and "du -sh" in one["remedy"]
    finally:
        subprocess.run(["umount", str(data)], check=True)


def test_a_wrong_permission(stopped: Node) -> None:
    data = stopped.home / "data"
    data.mkdir(mode=0o700)
    data.chmod(0o755)
    good, found = ask(stopped)
    assert not good
    one = only(found, "data_root", "wrong")
    assert "mode 0755" in one["sentence"] and one["remedy"] == f"chmod 700 {data}"


def test_a_port_is_taken(stopped: Node) -> None:
    with socket.create_server(("127.0.0.1", stopped.port)):
        good, found = ask(stopped)
    assert not good
    one = only(found, "port of receiver", "wrong")
    assert f"pid {os.getpid()}, has it" in one["sentence"]
    assert "receiver.port" in one["remedy"]


def test_wrong_settings_are_each_named_by_line(stopped: Node) -> None:
    file = stopped.home / "config" / "brookbox.yaml"
    file.write_text(file.read_text() + "nonsense: {}\nwebb: {}\n")
    good, found = ask(stopped)
    assert not good and len(found["settings"]) == 2
    assert "Did you mean web?" in found["settings"][1]["sentence"]


def test_wrong_streams_and_rules_are_named(stopped: Node) -> None:
    (stopped.home / "streams" / "montage" / "info.json").write_text("{")
    stopped.route({"rules": [{"name": "r", "to": ["nowhere"]}]})
    good, found = ask(stopped)
    assert not good
    assert "not JSON" in only(found, "stream montage", "wrong")["sentence"]
    assert "nowhere is not a destination" in only(found, "routing", "wrong")["sentence"]


def test_ft_28_a_damaged_index_is_named(stopped: Node) -> None:
    data = stopped.home / "data"
    data.mkdir(mode=0o700)
    (data / "index.sqlite3").write_bytes(b"not a database at all" * 100)
    good, found = ask(stopped)
    assert not good
    assert only(found, "index", "wrong")["remedy"]


def test_what_it_says_is_readable(stopped: Node) -> None:
    done = stopped.cli("doctor")
    assert "ok    settings: The settings are good" in done.stdout
    assert done.stdout.rstrip().endswith("to look at.")
    assert done.stderr == ""
