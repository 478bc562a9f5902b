"""One receiver for all tests of a module that only send to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.conftest import Receiver


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A running receiver; its log holds no traceback when the module is done."""
    one = Receiver(tmp_path_factory.mktemp("shared") / "node")
    try:
        one.start()
        yield one
        code = one.stop()
    finally:
        one.db.close()
        if one.is_alive():
            one.kill()
    assert code == 0
    assert "Traceback" not in one.text(), one.text()[-3000:]
