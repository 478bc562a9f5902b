"""How pages say things: pure functions of what the index holds and of the clock."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.index.deliveries import Delivery
from appliance.index.job_list import Step
from appliance.index.jobs import Job
from web import wording
from web.headline import headline
from web.timeline import WIDTH, timeline

NOW = datetime(2026, 2, 3, 9, 30, tzinfo=UTC)


def a_job(state: str, **more: object) -> Job:
    """A job of 10 minutes ago, with what is named."""
    blank = {field.name: None for field in fields(Job)}
    texts = {
        field.name: "" for field in fields(Job) if field.type in ("str", str)
    }
    at = NOW - timedelta(minutes=10)
    plain = {
        "id": 7, "input_count": 3, "attempt": 1, "tries": 1, "result_count": 0, "priority": 0,
        "incomplete": False, "is_held": False, "cancel_requested": False,
        "first_instance_at": at - timedelta(seconds=30), "last_instance_at": at, "created_at": at,
    }
    return Job(**{**blank, **texts, **plain, "state": state, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0 s"), (0.4, "0.4 s"), (9.97, "10 s"), (14, "14 s"), (134, "2 min 14 s"),
     (120, "2 min"), (3600 * 3 + 300, "3 h 5 min"), (86400, "1 day"),
     (86400 * 2 + 7200, "2 days 2 h"), (-5, "0 s"), (None, "")],
)  # fmt: skip
def test_lengths_of_time(seconds: float | None, said: str) -> None:
    assert wording.lasted(seconds) == said


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0, "0 B"), (532, "532 B"), (2 * 10**9, "2 GB"), (12_376_128, "12.4 MB"),
     (150_000, "150 kB")],
)  # fmt: skip
def test_sizes(amount: int, said: str) -> None:
    assert wording.size(amount) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [("Doe^Jane^Q^Dr^Jr", "Doe, Dr Jane Q Jr"), ("Doe", "Doe"), ("", ""), ("^^^", ""),
     ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou · 山田, 太郎 · やまだ, たろう")],
)  # fmt: skip
def test_names(written: str, said: str) -> None:
    assert wording.person(written) == said


def test_a_date_is_as_the_scanner_wrote_it() -> None:
    assert wording.scanner_date("20260203") == "2026-02-03"
    assert wording.scanner_date("2026") == "2026"


def test_a_failed_job_says_why_in_one_sentence() -> None:
    job = a_job(
        "failed", started_at=NOW - timedelta(seconds=134), ended_at=NOW,
        reason="It ran out of memory at 2 GB: raise memory_gb in info.json.",
    )
    assert headline(job, NOW) == (
        "Failed after 2 min 14 s: it ran out of memory at 2 GB: raise memory_gb in info.json."
    )


def test_a_queued_job_says_what_it_waits_for() -> None:
    assert headline(a_job("queued"), NOW) == "Waiting for 10 min: it is the next one of its stream."
    assert "3 jobs of this stream before it." in headline(a_job("queued"), NOW, before=3)
    soon = NOW + timedelta(seconds=20)
    waits = a_job("queued", wait_reason="Docker does not answer", not_before=soon)
    assert headline(waits, NOW) == (
        "Waiting for 10 min: Docker does not answer. It is tried again in 20 s."
    )


def test_a_running_job_says_how_far_it_is() -> None:
    job = a_job("running", started_at=NOW - timedelta(seconds=14))
    assert headline(job, NOW, usual_seconds=60) == (
        "Running for 14 s. This stream usually takes 1 min."
    )
    job = replace(job, progress_step="slices", progress_done=3, progress_of=9)
    assert headline(job, NOW) == "Running for 14 s, slices, 3 of 9."
    assert headline(replace(job, cancel_requested=True), NOW).endswith("It is being cancelled.")


def test_ended_jobs_say_what_they_made() -> None:
    ended = {"started_at": NOW - timedelta(seconds=5), "ended_at": NOW}
    one = a_job("succeeded", result_count=1, **ended)
    assert headline(one, NOW) == "Succeeded after 5 s: 1 result."
    none = a_job("succeeded", **ended)
    assert headline(none, NOW) == "Succeeded after 5 s: it made no results."
    cancelled = a_job("cancelled", reason="It was cancelled by x.")
    assert headline(cancelled, NOW) == "It was cancelled by x."


def test_steps_lie_on_one_line_of_time_in_order() -> None:
    begin = NOW - timedelta(minutes=5)
    job = a_job("failed", started_at=begin, ended_at=NOW - timedelta(minutes=1))
    steps = [
        Step(1, "prepare", begin, begin + timedelta(seconds=1), ""),
        Step(1, "run", begin + timedelta(seconds=1), NOW - timedelta(minutes=1), ""),
    ]
    sent = Delivery(
        1, 7, "pacs", "output", "all", "gave_up", NOW - timedelta(minutes=1), NOW, 1, "", None,
        None, NOW, "refused", "",
    )
    bars = timeline(job, steps, [sent], "Nothing came for 30 s.", NOW)
    assert [bar.name for bar in bars] == [
        "Received", "Waited until the study was complete", "Waited for its turn",
        "Preparing its input", "Running", "Sent to pacs",
    ]
    assert [bar.kind for bar in bars] == ["work", "wait", "wait", "work", "bad", "bad"]
    assert bars[1].detail == "Nothing came for 30 s."
    for bar in bars:
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH + 0.2


def test_a_second_attempt_is_named() -> None:
    job = a_job("running", attempt=2, started_at=NOW - timedelta(seconds=3))
    steps = [
        Step(1, "run", NOW - timedelta(minutes=2), NOW - timedelta(minutes=1), ""),
        Step(2, "run", NOW - timedelta(seconds=3), None, ""),
    ]
    names = [(bar.name, bar.kind) for bar in timeline(job, steps, [], "", NOW)]
    assert ("Attempt 1: running", "work") in names and ("Attempt 2: running", "now") in names
