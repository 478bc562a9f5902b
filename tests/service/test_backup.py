"""Backup, restore and rebuild of a node that has worked, by the commands that a person types."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
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
    rules = {"housekeeper": {"backup_hour_utc": 0}}
    node = Node(tmp_path_factory.mktemp("worked"), rules)
    killed = node.home / "data" / "backups" / f"nightly-{datetime.now(UTC):%Y%m%d}T000000Z.part"
    killed.mkdir(parents=True)
    (killed / "manifest.json").touch()
    node.start()
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


def test_ft_37_a_backup_with_files_makes_the_node_again_elsewhere(
    worked: Node, tmp_path: Path
) -> None:
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
    assert "Instances of the index without a file here: 6. See: brookbox index check" in said
    assert "brookbox.yaml stays as it is" in said
    assert "Streams that were there stay as they are: base, echo, montage" in said


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


def test_ft_28_the_index_is_made_again_from_the_files(worked: Node, tmp_path: Path) -> None:
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


def test_ft_28_a_lost_index_is_made_again_where_it_was(worked: Node, tmp_path: Path) -> None:
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
    assert done["former_read"] is False and done["unsent_jobs"] is None
    assert catalog(node) == before


def test_the_nightly_backup_is_made_where_one_was_killed_before(worked: Node) -> None:
    backups = worked.layout.backups
    [tonight] = wait_for(lambda: list(backups.glob("nightly-*Z")), "the nightly backup")
    assert json.loads((tonight / "manifest.json").read_text())["version"]
    assert (tonight / "config" / "brookbox.yaml").is_file()
    for name in ("info.json", "run.py", "Dockerfile"):
        assert (tonight / "streams" / "montage" / name).is_file()
    assert not list(backups.glob("*.part"))


def test_where_no_node_ran_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    node = Node(tmp_path / "empty")
    node.home.mkdir()
    for words in (["backup", "to"], ["index", "rebuild", "--yes"]):
        done = node.cli(*words)
        assert done.returncode == 1 and "try: go to the folder of a node" in done.stderr
        assert not list(node.home.iterdir())


def test_of_several_backups_the_newest_is_named_and_none_taken(
    worked: Node, tmp_path: Path
) -> None:
    first = backed_up(worked, tmp_path / "to")
    newest = wait_for(
        lambda: (
            worked.cli("backup", str(tmp_path / "to")).returncode == 0
            and max((tmp_path / "to").glob("brookbox-*"))
        ),
        "another second began",
    )
    assert newest != first
    node = another(worked, tmp_path / "elsewhere")
    done = node.cli("restore", str(tmp_path / "to"))
    assert done.returncode == 1 and "holds 2 backups" in done.stderr
    assert done.stderr.endswith(f"try: brookbox restore {newest}\n")
    assert not (node.home / "data").exists()
    assert node.cli(*done.stderr.split("try: brookbox ")[1].split()).returncode == 0


def test_a_backup_that_is_killed_leaves_nothing_that_stays(worked: Node, tmp_path: Path) -> None:
    many = worked.home / "streams" / "_many"
    many.mkdir()
    try:
        for number in range(3000):
            (many / str(number)).touch()
        to = tmp_path / "to"
        process = subprocess.Popen(
            worked.command("backup", str(to)), cwd=worked.home, env=worked.environment()
        )
        wait_for(lambda: list(to.glob("*.part/streams/_many/1*")), "it copies")
        process.kill()
        process.wait()
        [part] = to.iterdir()
        assert part.name.endswith(".part")
        refused = another(worked, tmp_path / "elsewhere").cli("restore", str(part))
        assert refused.returncode == 1 and "did not end" in refused.stderr
    finally:
        shutil.rmtree(many)
    assert list(to.iterdir()) != [backed_up(worked, to)]
    assert [path.suffix for path in to.iterdir()] == [""]


# -- what waited when it was stopped -----------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Path]]:
    """A stopped node, and a backup of it from before its second and third job.

    Job 1 and 2 have ended; job 3 waits for an image; 4 was queued by a person, of job 1.
    """
    node = Node(tmp_path_factory.mktemp("stopped"))
    node.home.mkdir(exist_ok=True)
    node.write_settings()
    script = (node.home / "streams" / "echo" / "run.py").read_text()
    waits = node.add_stream("WAITS", script, image="brookbox/none:1", trusted=False)
    (waits / "tool.sh").write_text("#!/bin/sh\n")
    (waits / "tool.sh").chmod(0o755)
    node.start()
    try:
        folder = tmp_path_factory.mktemp("studies")
        send(node, folder / "1", "ECHO")
        node.wait_for_jobs(1, "succeeded")
        backup = Path(node.cli_json("backup", str(node.home / "backups"))["folder"])
        send(node, folder / "2", "ECHO")
        node.wait_for_jobs(2, "succeeded")
        wait_for(node.layout.job(2).record.exists, "its record is there")
        send(node, folder / "3", "WAITS")
        node.wait_for_jobs(1, "queued")
    finally:
        node.stop()
    assert node.cli_json("jobs", "run-again", "1")["id"] == 4
    yield node, backup


def send(node: Node, folder: Path, called: str) -> None:
    files = dicom.write_study(dicom.ct_study(2, study_uid=generate_uid()), folder)
    assert node.send(files, called).exit_code == 0


def copy_of(stopped: Node, home: Path) -> Node:
    """Give a node like the stopped one, at other ports."""
    shutil.copytree(stopped.home, home, ignore=shutil.ignore_patterns("run"))
    node = Node(home)
    node.write_settings()
    return node


def let_run(node: Node) -> None:
    """Take from the stream WAITS what it waits for."""
    file = node.home / "streams" / "waits" / "info.json"
    info = json.loads(file.read_text()) | {"trusted": True}
    del info["image"]
    file.write_text(json.dumps(info))


def test_a_rebuild_says_of_each_waiting_job_what_becomes_of_it(
    stopped: tuple[Node, Path], tmp_path: Path
) -> None:
    node = copy_of(stopped[0], tmp_path / "copy")
    done = node.cli("index", "rebuild", "--yes")
    assert done.returncode == 0, done.stderr
    assert "Files do not tell of these jobs, which wait or run: 3, 4." in done.stderr
    assert "The next job is 5." in done.stdout
    assert "Job 3 (WAITS, queued): a new job is made of its study." in done.stdout
    assert "Job 4 (ECHO, queued) was to run job 1 again and does not come back." in done.stdout
    assert "try: brookbox jobs run-again 1" in done.stdout
    let_run(node)
    node.start()
    try:
        [job] = node.wait_for_jobs(1, "succeeded", ae_title="WAITS")
        assert job.id == 5 and job.incomplete and job.is_held and job.input_count == 2
        assert [one.id for one in node.jobs("ECHO")] == [1, 2]
    finally:
        node.stop()


def test_ft_37_what_came_after_a_backup_outlives_its_restore(
    stopped: tuple[Node, Path], tmp_path: Path
) -> None:
    node = copy_of(stopped[0], tmp_path / "copy")
    files = {path.relative_to(node.layout.root) for path in node.layout.studies.rglob("*.dcm")}
    shutil.rmtree(node.home / "streams" / "waits")
    done = node.cli("restore", "--yes", str(stopped[1]))
    assert done.returncode == 0, done.stderr
    assert "Streams put back: waits." in done.stdout
    assert os.access(node.home / "streams" / "waits" / "tool.sh", os.X_OK)
    # Two images of job 2 and its two results, two images that wait.
    assert "6 instances and 1 ended job that came after the backup" in done.stdout
    assert "1 study had no ended job" in done.stdout
    let_run(node)
    node.start()
    try:
        [job] = node.wait_for_jobs(1, "succeeded", ae_title="WAITS")
        assert job.id > 2 and job.input_count == 2
        assert [one.state for one in node.jobs("ECHO")] == ["succeeded", "succeeded"]
        assert node.cli("index", "check", "--digests").returncode == 0
        assert files <= {
            path.relative_to(node.layout.root) for path in node.layout.studies.rglob("*.dcm")
        }
    finally:
        node.stop()


def test_ft_37_streams_come_back_on_an_empty_machine(
    stopped: tuple[Node, Path], tmp_path: Path
) -> None:
    node = Node(tmp_path / "new")
    node.home.mkdir()
    done = node.cli("restore", str(stopped[1]))
    assert done.returncode == 0, done.stderr
    assert "Streams put back: base, echo, montage, waits." in done.stdout
    assert "stays as it is" not in done.stdout
    assert (node.home / "config" / "brookbox.yaml").is_file()
    assert os.access(node.home / "streams" / "waits" / "tool.sh", os.X_OK)


def test_a_running_node_is_found_before_anything_is_asked(worked: Node) -> None:
    done = worked.cli("index", "rebuild")
    assert done.returncode == 1 and done.stderr.startswith("a node runs already")
