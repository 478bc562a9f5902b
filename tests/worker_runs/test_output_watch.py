"""What a run has written is counted without trusting anything about it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance.worker import output_watch
from appliance.worker.output_watch import OutputWatch, count_below

MANY = 10**9


def said(watch: OutputWatch) -> str:
    stop = watch.why_stop()
    assert stop is not None and stop[0] == "output"
    return stop[1]


def test_what_was_there_before_is_not_output(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(bytes(10**6))
    watch = OutputWatch((tmp_path,), most_bytes=500_000, most_entries=5)
    assert watch.why_stop() is None
    (tmp_path / "result").write_bytes(bytes(600_000))
    assert "output_gb in info.json" in said(watch)


def test_a_sparse_file_counts_by_what_it_takes(tmp_path: Path) -> None:
    watch = OutputWatch((tmp_path,), most_bytes=10**6, most_entries=5)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)
    assert watch.why_stop() is None


def test_links_sockets_and_pipes_are_counted_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        counted = count_below(tmp_path, MANY)
    assert counted.entries == 3 and counted.bytes < 20_000


def test_counting_stops_at_the_limit(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).touch()
    assert count_below(tmp_path, 10).entries == 11


def test_a_name_that_is_no_text_is_counted(tmp_path: Path) -> None:
    os.mkdir(bytes(tmp_path) + b"/\xff\n")
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff\n/in")).write_bytes(bytes(5000))
    counted = count_below(tmp_path, MANY)
    assert counted.entries == 2 and counted.bytes >= 5000


def test_a_folder_closed_to_its_owner_is_counted(tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    (tmp_path / "dark" / "in").write_bytes(bytes(100_000))
    (tmp_path / "dark").chmod(0o300)
    assert count_below(tmp_path, MANY).bytes >= 100_000


def test_folders_without_end_are_noticed(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert "nested" in said(OutputWatch((tmp_path,), MANY, MANY))
    before = len(os.listdir("/proc/self/fd"))
    count_below(tmp_path, MANY)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_that_went_away_counts_nothing(tmp_path: Path) -> None:
    assert count_below(tmp_path / "gone", MANY).entries == 0


def test_a_folder_that_became_something_else_counts_nothing(tmp_path: Path) -> None:
    output = tmp_path / "OUTPUT"
    output.mkdir()
    watch = OutputWatch((output,), MANY, MANY)
    output.rmdir()
    assert watch.why_stop() is None
    output.symlink_to("/")
    assert watch.why_stop() is None
    output.unlink()
    output.write_bytes(b"x")
    assert watch.why_stop() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user for a while")
def test_an_output_that_was_closed_to_its_owner_is_counted(tmp_path: Path) -> None:
    output = tmp_path / "OUTPUT"
    output.mkdir()
    (output / "in").write_bytes(bytes(100_000))
    os.chown(output, 65534, 65534)
    for folder in tmp_path.parents:
        if folder != Path("/tmp") and Path("/tmp") in folder.parents:
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    output.chmod(0)
    os.seteuid(65534)
    try:
        assert count_below(output, MANY).bytes >= 100_000
    finally:
        os.seteuid(0)


def test_ft_23_a_full_volume_is_the_fault_of_who_filled_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = output_watch._ALWAYS_FREE
    monkeypatch.setattr(output_watch, "_free_bytes", lambda _: free)
    watch = OutputWatch((tmp_path,), most_bytes=MANY, most_entries=5)
    assert watch.why_stop() is None and not output_watch.is_full(tmp_path)
    free -= 100_000
    assert output_watch.is_full(tmp_path)
    stop = watch.why_stop()
    assert stop is not None and stop[0] == "unavailable", "others did, and it goes again"
    (tmp_path / "result").write_bytes(bytes(200_000))
    assert "It filled the data volume" in said(watch)
