"""FT-39: settings, routing and a stream are edited wrongly while studies flow: the old stay."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.flow import Town
from tests.kit import peers
from tests.kit.waiting import wait_for


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def page(town: Town, path: str = "/") -> str:
    url = f"http://127.0.0.1:{town.node.web_port}{path}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: bytes = answer.read()
    return text.decode()


@pytest.mark.long
def test_ft_39_broken_edits_change_nothing_but_what_is_said(town: Town) -> None:
    node, config = town.node, town.node.home / "config"
    flow = town.flow()
    wait_for(lambda: flow.studies > 1, "studies flow")
    good = {name: (config / name).read_text() for name in ("brookbox.yaml", "routing.yaml")}

    (config / "routing.yaml").write_text("rules: [{name: all, to: [nowhere]}]\n")
    (config / "brookbox.yaml").write_text("receiver: {port: many}\n")
    broken = node.home / "streams" / "broken"
    broken.mkdir()
    (broken / "info.json").write_text('{"AETitle": "BROKEN", "lanes": "many"}')
    wait_for(lambda: "Routing is broken, the last good rules" in page(town), "the page says so", 60)
    assert "nowhere" in page(town, "/routing")
    done = node.cli("config", "reload")
    assert done.returncode == 1
    assert "brookbox.yaml:1: " in done.stderr
    wait_for(lambda: "lanes" in page(town, "/streams"), "the stream's page says so", 60)
    assert not peers.echoscu(node.port, "BROKEN")
    assert peers.echoscu(node.port, "QUICK")

    seen = flow.studies
    wait_for(lambda: flow.studies > seen + 2, "studies flow on", 60)
    (broken / "info.json").write_text(
        json.dumps({"AETitle": "BROKEN", "command": ["true"], "trusted": True})
    )
    for name, text in good.items():
        (config / name).write_text(text)
    wait_for(lambda: peers.echoscu(node.port, "BROKEN"), "the stream is mended", 60)
    wait_for(lambda: "Routing is broken" not in page(town), "so are the rules", 60)
    assert node.cli("config", "reload").returncode == 0
    assert town.settle(flow) == []
    assert town.results_for_every_study(), "all went to the PACS by the rules that were good"
