"""Orthanc as a PACS, asked by its REST API."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kit import require
from tests.kit.waiting import free_port, is_listening, wait_for


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    ae_title: str
    port: int
    http_port: int

    def get(self, path: str) -> Any:
        """Read JSON from its API."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=20) as got:
            return json.load(got)

    def count(self, level: str) -> int:
        """Count patients, studies, series or instances."""
        return int(self.get("/statistics")[f"Count{level.capitalize()}"])


@contextmanager
def running(folder: Path, more: dict[str, Any] | None = None) -> Iterator[Orthanc]:
    """Lend an empty Orthanc; `more` are settings of it."""
    folder.mkdir(parents=True)
    one = Orthanc("ORTHANC", free_port(), free_port())
    settings = {
        "Name": "peer", "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"), "DicomAet": one.ae_title, "DicomPort": one.port,
        "HttpPort": one.http_port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True, "DicomCheckCalledAet": False,
        "UnknownSopClassAccepted": True, "Plugins": [], **(more or {}),
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    program = require.program("Orthanc", "orthanc")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            wait_for(lambda: is_listening(one.port) and is_listening(one.http_port), "Orthanc runs")
            yield one
        finally:
            process.terminate()
            process.wait(30)
