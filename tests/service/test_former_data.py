"""A data folder of an earlier version is opened, migrated after a backup, and sound."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance.index import database, migrate
from tests.faults.checker import Evidence, check
from tests.kit.node import Node
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@pytest.mark.parametrize("file", sorted(FIXTURES.glob("data-*.tar.gz")), ids=lambda file: file.name)
def test_a_node_goes_on_with_the_data_of_an_earlier_version(tmp_path: Path, file: Path) -> None:
    node = Node(tmp_path / "node", {"worker": {"docker": "never"}}, ())
    node.home.mkdir()
    node.write_settings()
    subprocess.run(["tar", "xzf", file, "-C", node.home], check=True)
    before = database.connect(node.loaded)
    is_older = migrate.needs_migration(before)
    before.close()
    node.start()
    try:
        jobs = node.jobs()
        assert [job.state for job in jobs] == ["succeeded", "succeeded"]
        assert len(node.deliveries("delivered")) == 1
        assert node.cli("index", "check", "--digests").returncode == 0
        backups = list(node.layout.backups.glob("before-*"))
        assert bool(backups) == is_older, "a migration begins with a backup"
        node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
        node.wait_for_stream("QUICK")
        node.cli("jobs", "run-again", str(jobs[0].id))
        node.wait_for_jobs(3, "succeeded")
        wait_for(lambda: all(job.routed_at for job in node.jobs()), "the router has looked at all")
        assert check(Evidence(node.layout.root, node.db, logs=[node.out])) == []
    finally:
        node.stop()
