"""What `brookbox up` tells systemd."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance.cli.service_manager import ServiceManager


def test_systemd_is_told_when_the_node_is_ready_and_when_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        told = ServiceManager()
        assert "NOTIFY_SOCKET" not in os.environ, "a stream would inherit it"
        told.ready("Receiving")
        assert manager.recv(1000) == b"READY=1\nSTATUS=Receiving"
        told.stopping()
        assert manager.recv(1000).startswith(b"STOPPING=1")


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@brookbox-nobody-listens"])
def test_a_manager_that_does_not_hear_is_no_failure(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    ServiceManager().ready("Receiving")
