"""One node for one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import NodeError
from appliance.health import node_lock
from tests.kit.waiting import wait_for


def test_two_nodes_do_not_share_a_folder(tmp_path: Path) -> None:
    with node_lock.held(tmp_path):
        holder = node_lock.holder(tmp_path)
        assert holder is not None and holder.pid == os.getpid()
        with (
            pytest.raises(NodeError, match=rf"runs already .*pid {os.getpid()}"),
            node_lock.held(tmp_path),
        ):
            pass
    assert node_lock.holder(tmp_path) is None
    with node_lock.held(tmp_path):
        pass


def test_leftovers_are_found_by_their_folder_and_waited_for(tmp_path: Path) -> None:
    environment = {**os.environ, node_lock.VARIABLE: str(tmp_path)}
    left = subprocess.Popen(
        [sys.executable, "-c", "input()"], env=environment, stdin=subprocess.PIPE
    )
    try:
        wait_for(lambda: [one.pid for one in node_lock.leftovers(tmp_path)] == [left.pid], "found")
        with pytest.raises(NodeError, match="still run") as caught:
            node_lock.wait_for_leftovers(tmp_path, 0.1)
        assert caught.value.remedy == f"kill -9 {left.pid}"
        assert not node_lock.leftovers(tmp_path / "other")
    finally:
        left.kill()
        left.wait()
    node_lock.wait_for_leftovers(tmp_path, 5)
