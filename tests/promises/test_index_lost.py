"""FT-28: an index that is damaged, gone, older or newer is refused in words, and made again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.kit.dicom import ct_study, write_study
from tests.kit.node import Node
from tests.kit.scripts import QUICK

PROCESSES = ("receiver", "dispatcher", "worker", "router", "housekeeper", "web")


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A stopped node that received a study and worked on it."""
    node = Node(tmp_path_factory.mktemp("node"), {"worker": {"docker": "never"}}, ())
    node.start()
    try:
        node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
        node.wait_for_stream("QUICK")
        files = write_study(ct_study(2), tmp_path_factory.mktemp("study"))
        assert len(node.send(files, "QUICK").acknowledged) == 2
        node.wait_for_jobs(1, "succeeded")
    finally:
        node.stop()
    yield node


def in_index(node: Node, statement: str) -> None:
    engine = sa.create_engine(f"sqlite:///{node.layout.root / 'index.sqlite3'}")
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def damage(node: Node) -> None:
    file = node.layout.root / "index.sqlite3"
    raw = bytearray(file.read_bytes())
    raw[: len(raw) // 2] = bytes(len(raw) // 2)
    file.write_bytes(bytes(raw))


def remove(node: Node) -> None:
    (node.layout.root / "index.sqlite3").unlink()


def make_newer(node: Node) -> None:
    in_index(node, "UPDATE alembic_version SET version_num = '9999'")


def make_older(node: Node) -> None:
    in_index(node, "UPDATE alembic_version SET version_num = '0001'")


@pytest.fixture
def kept(worked: Node) -> Iterator[Node]:
    """Put the index back as it was after the test."""
    file = worked.layout.root / "index.sqlite3"
    was = file.read_bytes()
    yield worked
    for one in worked.layout.root.glob("index.sqlite3*"):
        one.unlink()
    file.write_bytes(was)


@pytest.mark.parametrize(
    ("break_it", "said", "remedy"),
    [
        (damage, "index", "brookbox index rebuild"),
        (remove, "the index is gone", "brookbox index rebuild"),
        (make_newer, "newer than this program", "install the version of Brookbox that made it"),
    ],
)
def test_ft_28_the_node_does_not_start_on_it_and_says_what_to_do(
    kept: Node, break_it: object, said: str, remedy: str
) -> None:
    before = sorted(path for path in kept.layout.studies.rglob("*.dcm"))
    assert callable(break_it)
    break_it(kept)
    done = kept.cli("up")
    assert done.returncode == 1
    assert said in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(path for path in kept.layout.studies.rglob("*.dcm")) == before


@pytest.mark.parametrize("break_it", [damage, remove, make_newer, make_older])
def test_ft_28_no_process_works_on_it(kept: Node, break_it: object) -> None:
    assert callable(break_it)
    break_it(kept)
    with ThreadPoolExecutor(len(PROCESSES)) as pool:
        ended = list(pool.map(kept.cli, PROCESSES))
    for process, done in zip(PROCESSES, ended, strict=True):
        assert done.returncode == 1, process
        assert "try: " in done.stderr, process
        assert "Traceback" not in done.stdout + done.stderr, process


def test_ft_28_a_lost_index_is_made_again_and_no_study_was_removed(
    kept: Node, tmp_path: Path
) -> None:
    remove(kept)
    assert kept.cli("up").returncode == 1
    done = kept.cli("index", "rebuild", "--yes")
    assert done.returncode == 0, done.stderr
    # What the start that was refused had made is no index that was there.
    assert "The index that was there" not in done.stdout
    assert not list(kept.layout.root.glob("index.sqlite3.before-*"))
    kept.start()
    try:
        assert kept.cli("index", "check", "--digests").returncode == 0
        assert [job.state for job in kept.jobs()] == ["succeeded"]
        files = write_study(ct_study(1), tmp_path)
        assert len(kept.send(files, "QUICK").acknowledged) == 1
        kept.wait_for_jobs(2, "succeeded")
    finally:
        kept.stop()
