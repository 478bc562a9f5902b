"""The fixtures of the service tests, for the promises that need one process only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.conftest import Receiver, bench, gearmand, receiver

__all__ = ["bench", "gearmand", "receiver"]


@pytest.fixture(scope="module")
def shared_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A receiver that runs, for all tests of a module; each brings studies of its own."""
    one = Receiver(tmp_path_factory.mktemp("shared") / "node")
    one.start()
    yield one
    assert "Traceback" not in one.text(), one.text()[-3000:]
    assert one.stop() == 0
    one.db.close()
