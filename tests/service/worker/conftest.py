"""A worker and a gearmand of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.bench import Bench
from tests.kit.gearmand import Gearmand


@pytest.fixture
def gearmand() -> Iterator[Gearmand]:
    one = Gearmand()
    yield one
    one.kill()


@pytest.fixture
def bench(tmp_path: Path, gearmand: Gearmand) -> Iterator[Bench]:
    one = Bench(tmp_path, gearmand.server)
    yield one
    one.stop()
