"""A router on a folder of its own, and a PACS to send to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.peers import Pacs
from tests.service.router.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "node")
    yield made
    made.stop()
    made.db.close()


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Pacs]:
    made = Pacs(tmp_path / "pacs", "PACS0")
    yield made
    made.stop()
