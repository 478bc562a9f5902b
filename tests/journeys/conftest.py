"""A node for each journey; it is stopped and checked at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import Acknowledged, Evidence, check
from tests.kit.node import Node
from tests.kit.peers import Pacs, SendReport

NodeMaker = Callable[..., Node]


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[NodeMaker]:
    """Make nodes in folders of their own; all are stopped at the end."""
    made: list[Node] = []

    def make(*, name: str = "node", streams: tuple[str, ...] = (), **settings: Any) -> Node:
        settings.setdefault("worker", {}).setdefault("docker", "never")
        node = Node(tmp_path / name, settings, streams)
        made.append(node)
        return node.start()

    yield make
    for node in made:
        node.stop()


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Pacs]:
    """A PACS that listens."""
    one = Pacs(tmp_path / "pacs").start()
    yield one
    one.stop()


def violations(
    node: Node, reports: dict[str, list[SendReport]], *pacs: Pacs, **more: Any
) -> list[str]:
    """Check the invariants; `reports` maps called AE titles to what the senders were told."""
    acknowledged = [
        Acknowledged(file, called)
        for called, some in reports.items()
        for one in some
        for file in one.acknowledged
    ]
    evidence = Evidence(
        node.layout.root, node.db, acknowledged, [one.folder for one in pacs], [node.out], **more
    )
    return check(evidence)


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for all tests of a module; each brings streams and studies of its own."""
    node = Node(tmp_path_factory.mktemp("shared") / "node", {"worker": {"docker": "never"}}, ())
    node.start()
    yield node
    node.stop()
