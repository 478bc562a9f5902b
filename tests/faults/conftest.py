"""One node, one PACS and a steady flow of studies, for the tests that kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.flow import Town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A running node with a PACS behind it; stopped at the end of the module."""
    town = Town(tmp_path_factory.mktemp("town"))
    town.start()
    yield town
    town.stop()
