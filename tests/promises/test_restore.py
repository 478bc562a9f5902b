"""FT-37, FT-28, Show 8: a backup made while studies flow makes the node again elsewhere."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from appliance.index import schema as t
from tests.faults.checker import Acknowledged, Evidence, check
from tests.faults.flow import Flow, Town
from tests.kit import dicom
from tests.kit.node import Node
from tests.kit.waiting import wait_for

# Not in them: moments, which files tell only by and large.
COMPARED = (t.studies, t.series, t.instances, t.jobs, t.job_inputs)
# What became of its deliveries no file tells, and the note says so.
_LEFT_OUT = {"jobs": {"routing_note"}}


def rows(node: Node, table: sa.Table) -> list[dict[str, Any]]:
    """Give a table's rows without their moments, in the order of their keys."""
    with node.db.read() as connection:
        found = connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
        left_out = _LEFT_OUT.get(table.name, set())
        return [
            {
                name: value
                for name, value in row.items()
                if not isinstance(value, datetime) and name not in left_out
            }
            for row in found
        ]


def odd_study(folder: Path) -> list[Path]:
    """A study that is kept and marked: its patient has no ID."""
    return dicom.write_study(dicom.ct_study(2, patient_id=""), folder)


@pytest.mark.timeout(400)
def test_ft_37_a_backup_while_receiving_is_a_whole_node_on_an_empty_machine(
    tmp_path: Path,
) -> None:
    town = Town(tmp_path / "town")
    town.start()
    try:
        flows = [
            Flow(town.node, tmp_path / f"sent{n}", "QUICK", most_waiting=2).start()
            for n in range(2)
        ]
        marked = odd_study(tmp_path / "odd")
        assert len(town.node.send(marked, "QUICK").acknowledged) == 2
        wait_for(lambda: all(flow.studies > 1 for flow in flows), "studies flow", 60)
        before = [*town.told, *(one for flow in flows for one in list(flow.acknowledged))]
        before += [Acknowledged(file, "QUICK") for file in marked]
        done = town.node.cli_json("backup", str(tmp_path / "backups"), "--with-files")
        seen = [flow.studies for flow in flows]
        wait_for(
            lambda: all(flow.studies > n for flow, n in zip(flows, seen, strict=True)),
            "studies flow on",
            60,
        )
        assert town.settle(*flows) == []
    finally:
        town.stop()
    elsewhere = Node(tmp_path / "elsewhere", town.node.settings, ())
    elsewhere.home.mkdir()
    elsewhere.write_settings()
    done = elsewhere.cli("restore", done["folder"], seconds=120)
    assert done.returncode == 0, done.stderr
    town.pacs.start()
    town.node.process, town.node = None, elsewhere
    town.told, town._before = before, None
    elsewhere.start()
    elsewhere.route_all_to(town.pacs)
    try:
        assert town.settle() == []
        assert elsewhere.cli("index", "check", "--digests").returncode == 0
        _rebuilt_is_alike(elsewhere, before)
    finally:
        elsewhere.stop()
        town.pacs.stop()


def _rebuilt_is_alike(node: Node, told: list[Acknowledged]) -> None:
    """Show 8: take the index away, make it again from the files, and compare row by row."""
    node.stop()
    was = {table.name: rows(node, table) for table in COMPARED}
    node.db.close()
    node._db = None
    for file in node.layout.root.glob("index.sqlite3*"):
        file.unlink()
    done = node.cli("index", "rebuild", "--yes", seconds=120)
    assert done.returncode == 0, done.stderr
    for table in COMPARED:
        assert rows(node, table) == was[table.name], f"{table.name} differs"
    assert any(row["marks"] for row in rows(node, t.instances)), "the marks are there again"
    node.start()
    evidence = Evidence(node.layout.root, node.db, told, (), [node.out])
    assert check(evidence) == []  # the ends of jobs stand in the audit trail again
