"""Backup, restore and rebuild of a node that has worked, by the commands that a person types."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.uid import generate_uid

from appliance.index import schema as t
from tests.kit import dicom
from tests.kit.node import Node
from tests.kit.waiting import wait_for


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that received a study for two AE titles and worked on it; it still runs."""
    node = Node(tmp_path_factory.mktemp("worked")).start()
    folder = tmp_path_factory.mktemp("study")
    files = dicom.write_study(dicom.ct_study(3, study_uid=generate_uid()), folder)
    for called in ("ECHO", "BROOKBOX"):
        assert node.send(files, called).exit_code == 0
    node.wait_for_jobs(1, "succeeded")
    record = node.layout.job(1).record
    wait_for(record.exists, "the job's record is there")
    yield node
    node.stop()


def catalog(node: Node) -> dict[str, Any]:
    """Give what must be alike in a node that was made again."""
    i, s, j = t.instances.c, t.studies.c, t.jobs.c
    with node.db.read() as connection:
        return {
            "instances": sorted(
                tuple(row)
                for row in connection.execute(
                    sa.select(i.sop_instance_uid, i.path, i.size_bytes, i.dataset_sha256,
                              i.transfer_syntax_uid, i.made_by_job)
                )
            ),
            "studies": sorted(
                tuple(row) for row in connection.execute(sa.select(s.study_uid, s.patient_name))
            ),
            "series": sorted(connection.scalars(sa.select(t.series.c.series_uid))),
            "jobs": sorted(
                tuple(row)
                for row in connection.execute(
                    sa.select(j.id, j.ae_title, j.state, j.result_seed, j.input_digest)
                )
            ),
            "inputs": sorted(connection.scalars(sa.select(t.job_inputs.c.sop_instance_uid))),
        }  # fmt: skip


def another(worked: Node, home: Path) -> Node:
    """Give a node with the same settings in an empty place."""
    node = Node(home)
    node.home.mkdir(parents=True)
    node.write_settings()
    return node


def backed_up(worked: Node, folder: Path, *options: str) -> Path:
    return Path(worked.cli_json("backup", str(folder), *options)["folder"])


def test_a_backup_with_files_makes_the_node_again_elsewhere(worked: Node, tmp_path: Path) -> None:
    folder = backed_up(worked, tmp_path, "--with-files")
    node = another(worked, tmp_path / "elsewhere")
    done = node.cli("restore", str(folder))
    assert done.returncode == 0, done.stderr
    assert "files were put back" in done.stdout
    assert catalog(node) == catalog(worked)
    node.start()
    try:
        assert node.cli("index", "check", "--digests").returncode == 0
        [file] = dicom.write_study(dicom.ct_study(1), tmp_path / "more")
        assert node.send([file], "ECHO").exit_code == 0
        node.wait_for_jobs(2, "succeeded")
        assert len(node.deliveries()) == len(worked.deliveries())
    finally:
        node.stop()


def test_a_backup_without_files_says_what_is_missing(worked: Node, tmp_path: Path) -> None:
    folder = backed_up(worked, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["with_files"] is False and "index.sqlite3" in manifest["sha256"]
    assert not list(folder.rglob("*.dcm"))
    assert not list(folder.rglob("*key*")), "a secret is in the backup"
    node = another(worked, tmp_path / "elsewhere")
    said = node.cli("restore", str(folder)).stdout
    assert "6 instances of the index have no file here: brookbox index check" in said
    assert "brookbox.yaml stays as it is" in said


def test_a_changed_backup_is_refused(worked: Node, tmp_path: Path) -> None:
    folder = backed_up(worked, tmp_path)
    with (folder / "index.sqlite3").open("ab") as file:
        file.write(b"x")
    done = another(worked, tmp_path / "elsewhere").cli("restore", str(folder))
    assert done.returncode == 1 and "changed since the backup" in done.stderr


def test_a_node_that_runs_or_is_used_is_not_overwritten(worked: Node, tmp_path: Path) -> None:
    folder = backed_up(worked, tmp_path)
    done = worked.cli("restore", "--yes", str(folder))
    assert done.returncode == 1 and "a node runs already" in done.stderr
    node = another(worked, tmp_path / "elsewhere")
    assert node.cli("restore", str(folder)).returncode == 0
    again = node.cli("restore", str(folder))
    assert again.returncode == 1 and "is not empty" in again.stderr
    assert node.cli("restore", "--yes", str(folder)).returncode == 0
    assert list(node.layout.root.glob("index.sqlite3.before-restore-*"))


def test_the_index_is_made_again_from_the_files(worked: Node, tmp_path: Path) -> None:
    node = another(worked, tmp_path / "elsewhere")
    node.layout.make()
    for part in ("studies", "jobs"):
        shutil.copytree(worked.layout.root / part, node.layout.root / part, dirs_exist_ok=True)
    done = node.cli("index", "rebuild", "--yes")
    assert done.returncode == 0, done.stderr
    assert "deliveries, events" in done.stderr and "The next job is 2." in done.stdout
    assert catalog(node) == catalog(worked)
    node.start()
    try:
        assert node.cli("index", "check", "--digests").returncode == 0
        assert node.jobs()[0].routed_at is not None
    finally:
        node.stop()


def test_a_lost_index_is_made_again_where_it_was(worked: Node, tmp_path: Path) -> None:
    folder = backed_up(worked, tmp_path, "--with-files")
    node = another(worked, tmp_path / "elsewhere")
    assert node.cli("restore", str(folder)).returncode == 0
    before = catalog(node)
    node.db.close()
    node._db = None
    (node.layout.root / "index.sqlite3").write_bytes(b"the disk ate it")
    assert node.cli("jobs", "list").returncode == 1
    done = node.cli_json("index", "rebuild", "--yes")
    assert Path(done["former_index"]).read_bytes() == b"the disk ate it"
    assert catalog(node) == before


def test_the_nightly_backup_is_made_and_old_ones_go(worked: Node) -> None:
    backups = worked.layout.backups
    [tonight] = wait_for(lambda: list(backups.glob("nightly-*Z")), "the nightly backup")
    assert json.loads((tonight / "manifest.json").read_text())["version"]
    assert (tonight / "config" / "brookbox.yaml").is_file()
    assert (tonight / "streams" / "montage" / "info.json").is_file()
