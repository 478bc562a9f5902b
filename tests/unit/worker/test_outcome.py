"""How a run ended and what it said decide what becomes of its job."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.disk.layout import JobFolder
from appliance.worker.executor import Ended
from appliance.worker.outcome import UNCOUNTED_ATTEMPTS, Cancelled, Done, PutBack, decide
from appliance.worker.progress import Progress, Said, one_line, read_proc, read_progress
from tests.kit.runs import job as a_job

JOB = replace(a_job(1, "ECHO"), attempt=1, tries=1)
GOOD = Ended("exited", 0, "", "")


@pytest.mark.parametrize(
    ("said", "outcome", "takes_results"),
    [
        (Said(), "success", True),
        (Said("success", "fine"), "success", True),
        (Said("partial", "half"), "partial", True),
        (Said("failed", "no heart found"), "failed", False),
        (Said(doubt="Its proc.json is no JSON, so its exit code counts."), "success", True),
    ],
)
def test_proc_json_tells_the_outcome_of_a_run_that_exits_with_0(
    said: Said, outcome: str, takes_results: bool
) -> None:
    decided = decide(JOB, GOOD, said)
    assert isinstance(decided, Done)
    assert (decided.end.outcome, decided.takes_results) == (outcome, takes_results)
    assert decided.end.message == said.message


def test_any_other_exit_is_failed_whatever_proc_json_says() -> None:
    ended = Ended("exited", 3, "It ended with exit code 3.", "read its log")
    decided = decide(JOB, ended, Said("success", "all well"))
    assert isinstance(decided, Done)
    assert (decided.end.outcome, decided.takes_results) == ("failed", False)
    assert decided.end.reason == "It ended with exit code 3."
    timeout = Ended("timeout", 0, "It timed out after 20 min: raise timeout_minutes.", "raise it")
    decided = decide(JOB, timeout, Said("success"))
    assert isinstance(decided, Done)
    assert decided.end.outcome == "failed"
    assert "timeout_minutes" in decided.end.reason


def test_the_machines_fault_is_not_counted_until_it_is_too_often() -> None:
    ended = Ended("unavailable", None, "Docker went away while it ran.", "")
    assert decide(JOB, ended, Said()) == PutBack(ended.sentence, counts=False, after_pause=True)
    often = replace(JOB, attempt=UNCOUNTED_ATTEMPTS + 1, tries=1)
    assert decide(often, ended, Said()) == PutBack(ended.sentence, counts=True, after_pause=True)


def test_a_stop_goes_again_at_once_and_a_cancel_ends() -> None:
    stopped = decide(JOB, Ended("stopped", None, "The worker was stopped.", ""), Said())
    assert stopped == PutBack("The worker was stopped.", counts=False, after_pause=False)
    assert isinstance(decide(JOB, Ended("cancelled", None, "", ""), Said()), Cancelled)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path)
    folder.output.mkdir()
    return folder


def test_only_the_first_element_of_proc_json_counts_from_output_or_beside_it(
    folder: JobFolder,
) -> None:
    assert read_proc(folder) == Said()
    folder.proc.write_text('[{"success": "partial", "message": "beside"}, {"success": "failed"}]')
    assert read_proc(folder) == Said("partial", "beside")
    (folder.output / "proc.json").write_text('[{"success": "failed", "message": "inside"}]')
    assert read_proc(folder) == Said("failed", "inside")


@pytest.mark.parametrize("text", ["", "{", "[]", "[3]", "[" * 100_000, "\x00", '"success"'])
def test_a_proc_json_that_cannot_be_understood_leaves_it_to_the_exit_code(
    folder: JobFolder, text: str
) -> None:
    (folder.output / "proc.json").write_text(text)
    said = read_proc(folder)
    assert said.outcome == ""
    assert said.doubt


def test_words_that_are_none_of_ours_leave_it_to_the_exit_code(folder: JobFolder) -> None:
    (folder.output / "proc.json").write_text('[{"success": "yes!", "message": "m"}]')
    said = read_proc(folder)
    assert (said.outcome, said.message) == ("", "m")
    assert said.doubt


def test_no_link_fifo_or_huge_file_is_read(folder: JobFolder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('[{"success": "failed", "message": "secret"}]')
    inside = folder.output / "proc.json"
    inside.symlink_to(secret)
    assert read_proc(folder) == Said()
    inside.unlink()
    os.mkfifo(inside)
    assert read_proc(folder) == Said()
    inside.unlink()
    inside.write_text(" " * 300_000)
    assert read_proc(folder) == Said()


def test_progress_is_read_and_nonsense_is_not(folder: JobFolder) -> None:
    file = folder.output / "progress.json"
    assert read_progress(folder) is None
    file.write_text(json.dumps({"done": 12, "of": 51, "step": "segment\nthe \x1b[31mheart"}))
    assert read_progress(folder) == Progress(12, 51, "segment the [31mheart")
    for text, expected in [
        ("[1]", None),
        ("{", None),
        ('{"done": true, "of": -1, "step": 5}', Progress(None, None, "")),
        ('{"done": 1e300, "of": NaN}', Progress(None, None, "")),
        ('{"done": 3.7}', Progress(3, None, "")),
    ]:
        file.write_text(text)
        assert read_progress(folder) == expected


def test_what_a_stream_says_is_one_line_of_bounded_length() -> None:
    assert one_line("a\r\nb\u202e\u0000c") == "a b c"
    assert len(one_line("x" * 10_000)) == 1000
    assert one_line(["no", "text"]) == ""
