"""A stream that cannot serve raises an alert, in the doctor's words too, until it is mended."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.kit.node import Node
from tests.kit.waiting import wait_for

PATIENCE_SECONDS = 60


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    one = Node(tmp_path / "node", {"worker": {"docker": "never"}}, ("echo", "montage"))
    one.settings["housekeeper"] = {"beat_seconds": 5}
    one.start()
    yield one
    one.stop()


def open_alerts(node: Node) -> dict[tuple[str, str], dict[str, Any]]:
    found = node.cli_json("alerts")["open"]
    return {(one["kind"], one["subject"]): one for one in found if one["kind"] != "clock"}


def broken(node: Node) -> list[dict[str, Any]]:
    file = node.layout.run / "broken.json"
    return json.loads(file.read_text()) if file.exists() else []  # type: ignore[no-any-return]


def let_two_minutes_pass(node: Node) -> None:
    """Say that what is broken has been so for two minutes more."""
    listed = broken(node)
    for one in listed:
        one["since"] = (datetime.fromisoformat(one["since"]) - timedelta(minutes=2)).isoformat()
    part = node.layout.run / "broken.test"
    part.write_text(json.dumps(listed))
    part.rename(node.layout.run / "broken.json")


def test_bi_22_a_stream_that_cannot_serve_is_an_alert_until_it_is_mended(node: Node) -> None:
    streams = node.home / "streams"
    echo = (streams / "echo" / "info.json").read_text()
    (streams / "echo" / "info.json").write_text("{")
    (streams / "nothing").mkdir()
    shutil.copytree(streams / "montage", streams / "montage2")
    wait_for(lambda: len(broken(node)) == 3, "all three are noticed", PATIENCE_SECONDS)
    assert open_alerts(node) == {}, "one who edits a folder is not alarmed"
    let_two_minutes_pass(node)
    wait_for(lambda: len(open_alerts(node)) == 3, "three alerts", PATIENCE_SECONDS)
    found = open_alerts(node)
    assert set(found) == {("broken", "echo"), ("broken", "nothing"), ("doubled", "MONTAGE")}
    assert "echo/info.json:1: This is not JSON" in found["broken", "echo"]["sentence"]
    assert found["broken", "echo"]["remedy"] == f"brookbox streams check {streams / 'echo'}"
    with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}/metrics", timeout=20) as answer:
        assert 'brookbox_alert{kind="broken",subject="nothing"} 1' in answer.read().decode()
    said = node.cli("doctor").stdout
    for one in found.values():
        assert said.count(one["sentence"]) == 1, said
    (streams / "echo" / "info.json").write_text(echo)
    shutil.rmtree(streams / "nothing")
    wait_for(lambda: set(open_alerts(node)) == {("doubled", "MONTAGE")}, "mended", PATIENCE_SECONDS)
    shutil.rmtree(streams / "montage2")
    wait_for(lambda: open_alerts(node) == {}, "mended", PATIENCE_SECONDS)


@pytest.mark.long
def test_bi_22_two_of_one_ae_title_are_urgent_after_a_start_where_none_serves(node: Node) -> None:
    streams = node.home / "streams"
    shutil.copytree(streams / "montage", streams / "montage2")
    wait_for(lambda: broken(node), "it is noticed", PATIENCE_SECONDS)
    let_two_minutes_pass(node)
    wait_for(lambda: set(open_alerts(node)) == {("doubled", "MONTAGE")}, "told", PATIENCE_SECONDS)
    node.stop()
    node.start()
    wait_for(lambda: set(open_alerts(node)) == {("broken", "MONTAGE")}, "urgent", PATIENCE_SECONDS)
    shutil.rmtree(streams / "montage2")
    wait_for(lambda: open_alerts(node) == {}, "mended", PATIENCE_SECONDS)
