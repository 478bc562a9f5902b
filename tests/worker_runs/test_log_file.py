"""processing.log holds what was printed, in lines, and never grows past its limit."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from appliance.worker.log_file import LogFile


def test_lines_of_two_sources_are_not_mixed(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", 10**6)
    log.write("stdout", b"half of ")
    log.write("stderr", b"an error\nand half")
    log.write("stdout", b"a line\n")
    log.close()
    assert (tmp_path / "log").read_text() == "an error\nhalf of a line\nand half\n"


def test_over_the_limit_head_and_end_stay_with_a_count_of_what_does_not(tmp_path: Path) -> None:
    path, written = tmp_path / "log", 0
    log = LogFile(path, 100_000)
    for number in range(20_000):
        line = b"line %d of many\n" % number
        log.write("stdout", line)
        written += len(line)
        assert path.stat().st_size <= 100_000
    log.close()
    text = path.read_text()
    lines = text.splitlines()
    assert lines[0] == "line 0 of many" and lines[-1] == "line 19999 of many"
    marker = re.search(r"\n… (\d+) bytes were left out here \(log_mb in info.json\) …\n", text)
    assert marker is not None and text.count("left out") == 1
    kept = len(text.encode()) - len(marker.group().encode())
    assert int(marker[1]) + kept == written
    # No line after the gap is a piece of one.
    after = text[marker.end() :].splitlines()
    assert all(re.fullmatch(r"line \d+ of many", line) for line in after)


def test_an_endless_line_is_bounded_too(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", 100_000)
    for _ in range(100):
        log.write("stdout", b"x" * 50_000)
    log.close()
    assert (tmp_path / "log").stat().st_size <= 100_000


def test_a_second_attempt_goes_on_after_the_first(tmp_path: Path) -> None:
    for attempt in (1, 2):
        log = LogFile(tmp_path / "log", 10**6)
        log.write("stdout", b"attempt %d\n" % attempt)
        log.say("It was cancelled.")
        log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    said = "brookbox: It was cancelled."
    assert lines == ["attempt 1", said, "attempt 2", said]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        LogFile(tmp_path / "log", 10**6)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_loses_lines_and_not_the_run(tmp_path: Path) -> None:
    log = LogFile(Path("/dev/full"), 10**6) if os.path.exists("/dev/full") else None
    assert log is not None
    log.write("stdout", b"lost\n")
    log.close()
