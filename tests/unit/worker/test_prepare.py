"""The job's folder: links or copies, made anew for each attempt, whatever was left in it."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.disk.layout import Layout
from appliance.disk.trees import remove_tree
from appliance.index.catalog import Instance
from appliance.index.jobs import Job
from appliance.streams.catalog import Stream, read_stream
from appliance.worker.prepare import prepare
from tests.kit.runs import job as a_job

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.make()
    return layout


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    folder = tmp_path / "streams" / "echo"
    folder.mkdir(parents=True)
    info = {"AETitle": "ECHO", "command": ["x"], "trusted": True, "settings": {"a": [1]}}
    (folder / "info.json").write_text(json.dumps(info))
    return read_stream(folder)


def kept(layout: Layout, number: int) -> Instance:
    path = f"studies/aa/1.2/1.2.1/1.2.1.{number}.dcm"
    (layout.root / path).parent.mkdir(parents=True, exist_ok=True)
    (layout.root / path).write_bytes(b"x" * number)
    (layout.root / path).chmod(0o440)
    return Instance(
        f"1.2.1.{number}", "1.2.1", "1.2", "c", "t", str(number), path, number, "d", NOW, None
    )


def test_links_share_the_stored_file_and_copies_do_not(layout: Layout, stream: Stream) -> None:
    instances = [kept(layout, n) for n in (1, 2, 3)]
    folder = prepare(layout, a_job(7, "ECHO"), stream, instances, copy=False, told={})
    names = sorted(path.name for path in folder.input.iterdir())
    assert names == ["00001.dcm", "00002.dcm", "00003.dcm"]
    stored = layout.root / instances[1].path
    assert (folder.input / "00002.dcm").samefile(stored)
    folder = prepare(layout, a_job(7, "ECHO"), stream, instances, copy=True, told={})
    copied = folder.input / "00002.dcm"
    assert not copied.samefile(stored)
    assert copied.read_bytes() == b"xx"
    copied.write_bytes(b"written by the stream")
    assert stored.read_bytes() == b"xx"
    assert stored.stat().st_nlink == 1


def test_the_stream_is_told_of_its_job_and_its_own_settings(layout: Layout, stream: Stream) -> None:
    job: Job = a_job(7, "ECHO")
    folder = prepare(layout, job, stream, [kept(layout, 1)], copy=False, told={"image": "a:1"})
    told = json.loads(folder.info.read_text())
    assert (told["job"], told["image"]) == (7, "a:1")
    assert told["series_uids"] == ["1.2.1"]
    assert told["result_seed"] == job.result_seed
    assert told["stream"]["AETitle"] == "ECHO"
    assert told["stream"]["settings"] == {"a": [1]}
    assert folder.info.stat().st_mode & 0o777 == 0o644


def test_what_an_attempt_left_is_gone_at_the_next(layout: Layout, stream: Stream) -> None:
    instances = [kept(layout, 1)]
    folder = prepare(layout, a_job(7, "ECHO"), stream, instances, copy=True, told={})
    closed = folder.output / "closed" / "inner"
    closed.mkdir(parents=True)
    (closed / "f").write_text("x")
    closed.parent.chmod(0)
    (folder.output / "link").symlink_to(layout.studies)
    os.mkfifo(folder.output / "fifo")
    (folder.output / "one.dcm").write_text("half a result")
    folder.proc.write_text('[{"success": "failed"}]')
    folder = prepare(layout, a_job(7, "ECHO"), stream, instances, copy=True, told={})
    assert list(folder.output.iterdir()) == []
    assert not folder.proc.exists()
    assert (layout.root / instances[0].path).read_bytes() == b"x"


def test_a_tree_of_any_depth_is_removed_and_links_in_it_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(tmp_path / "kept")
    here = os.open(top, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    remove_tree(top)
    remove_tree(top)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").exists()
