"""An index in PostgreSQL belongs to one data folder; what replaces it keeps it, and waits."""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import generate_uid

from tests.kit import dicom, postgres
from tests.kit.node import Node


def on_postgresql(home: Path, url: str) -> Node:
    return Node(home, {"index": {"url": url}, "worker": {"docker": "never"}})


def worked(home: Path, url: str, folder: Path) -> Node:
    """Start a node that receives a study and works on it."""
    node = on_postgresql(home, url).start()
    files = dicom.write_study(dicom.ct_study(2, study_uid=generate_uid()), folder)
    assert node.send(files, "ECHO").exit_code == 0
    node.wait_for_jobs(1, "succeeded")
    return node


def refused(node: Node) -> str:
    """Say in what words `brookbox up` refuses."""
    node.home.mkdir(parents=True, exist_ok=True)
    node.write_settings()
    done = node.cli("up")
    assert done.returncode == 1
    return done.stderr


def test_another_folder_neither_starts_on_it_nor_replaces_it_while_it_is_used(
    tmp_path: Path,
) -> None:
    with postgres.cluster() as url:
        node = worked(tmp_path / "first", url, tmp_path / "study")
        try:
            backup = node.cli_json("backup", str(tmp_path / "backup"))["folder"]
            other = on_postgresql(tmp_path / "second", url)
            said = refused(other)
            assert f"belongs to another data folder, {node.layout.root}" in said
            assert "brookbox index adopt" in said
            for words in (("restore", "--yes", backup), ("index", "adopt", "--yes")):
                done = other.cli(*words)
                assert done.returncode == 1 and "a node works on this index" in done.stderr
            assert [job.state for job in node.jobs()] == ["succeeded"]
        finally:
            node.stop()


def test_what_a_restore_and_a_rebuild_replace_is_kept(tmp_path: Path) -> None:
    with postgres.cluster() as url:
        node = worked(tmp_path / "first", url, tmp_path / "study")
        backup = node.cli_json("backup", str(tmp_path / "backup"))["folder"]
        node.stop()
        other = on_postgresql(tmp_path / "second", url)
        other.home.mkdir()
        other.write_settings()
        done = other.cli("restore", backup)
        assert done.returncode == 1 and "the database of index.url is not empty" in done.stderr
        assert not (other.home / "data" / "studies").exists(), "a refused restore leaves nothing"
        done = other.cli("restore", "--yes", backup)
        assert done.returncode == 0, done.stderr
        [kept] = (other.home / "data").glob("index.pgdump.before-restore-*")
        assert kept.stat().st_size > 1000
        assert "belongs to another data folder" in refused(node)
        assert node.cli("index", "adopt", "--yes").returncode == 0
        made = node.cli_json("index", "rebuild", "--yes")
        assert made["rebuilt"]["instances"] == 4
        assert Path(made["former_index"]).is_file()
        node.start()
        try:
            assert node.cli("index", "check").returncode == 0
        finally:
            node.stop()
