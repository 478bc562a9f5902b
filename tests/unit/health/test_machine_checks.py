"""What the doctor sees of the machine, as a user who is not root sees it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.health import machine_checks
from appliance.health.finding import Finding
from appliance.settings import Settings
from tests.kit import require

NOBODY = 65534


def as_user(uid: int, ask: Callable[[], list[Finding]]) -> list[dict[str, Any]]:
    """Ask in a child process that has become another user."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        os.write(write, json.dumps([asdict(one) for one in ask()]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    os.waitpid(pid, 0)
    return found


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that other users reach too."""
    with tempfile.TemporaryDirectory(prefix="brookbox-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_folder_that_belongs_to_another_user_is_named(home: Path) -> None:
    require.root()
    data = home / "data"
    (data / "run").mkdir(parents=True)
    data.chmod(0o700)
    os.chown(data, NOBODY, NOBODY)
    found = as_user(NOBODY, lambda: list(machine_checks.check_data_root(Settings(home=home))))
    [one] = [one for one in found if one["level"] == "wrong"]
    assert one["sentence"] == f"{data}/run belongs to root and nobody may not write it."
    assert f"chown -R nobody {data}" in one["remedy"]


def test_a_private_folder_is_well(home: Path) -> None:
    (home / "data").mkdir(mode=0o700)
    assert [one.level for one in machine_checks.check_data_root(Settings(home=home))] == ["ok"]


def test_a_clock_behind_the_index_is_wrong() -> None:
    now = datetime.now(UTC)
    [one] = machine_checks.check_clocks(now + timedelta(minutes=5), "", now)
    assert one.level == "wrong" and "300 s behind" in one.sentence
    [well] = machine_checks.check_clocks(now - timedelta(days=1), "", now)
    assert well.level == "ok"


def test_a_stopped_retention_is_wrong() -> None:
    now = datetime.now(UTC)
    [one] = machine_checks.check_clocks(None, "The clock jumped by +366.0 days.", now)
    assert one.level == "wrong" and "housekeeper-confirm" in one.remedy
