"""The open alerts among the doctor's findings: each once, and nothing well beside it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from appliance.health.alert_findings import with_alerts
from appliance.health.finding import Finding, ok, warn, wrong
from appliance.index.alerts import Alert

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def alert(kind: str, subject: str, sentence: str = "It is bad.") -> Alert:
    return Alert(1, kind, subject, sentence, "do this", NOW, None, None)


@pytest.mark.parametrize(
    ("one", "about", "level"),
    [
        (alert("stream", "FAIL"), "stream FAIL", "wrong"),
        (alert("broken", "FAIL"), "stream FAIL", "wrong"),
        (alert("doubled", "FAIL"), "stream FAIL", "warn"),
        (alert("waiting", "FAIL"), "stream FAIL", "warn"),
        (alert("clock", "synchronisation"), "clock", "warn"),
        (alert("backup", "index"), "backup", "warn"),
        (alert("restarts", "web"), "web", "wrong"),
        (alert("disk", "data_root"), "space", "wrong"),
        (alert("destination", "pacs"), "destination pacs", "warn"),
    ],
)
def test_an_alert_stands_where_that_was_well(one: Alert, about: str, level: str) -> None:
    well, other = ok(about, "All is well."), ok("stream OTHER", "It can run.")
    found = with_alerts([well, other], [one])
    assert [(f.level, f.about, f.sentence, f.remedy) for f in found] == [
        ("ok", "stream OTHER", "It can run.", ""),
        (level, about, "It is bad.", "do this"),
    ]


def test_what_the_doctor_says_in_the_same_words_stands_once() -> None:
    more = wrong("space", "1 GB of 9 GB is free. It is full.", "make room")
    assert with_alerts([more], [alert("disk", "data_root", "It is full.")]) == [more]
    less = wrong("stream A", "a/info.json:1: Not JSON.", "mend it")
    found = with_alerts([less], [alert("broken", "A", "A cannot serve: a/info.json:1: Not JSON.")])
    assert [f.sentence for f in found] == ["A cannot serve: a/info.json:1: Not JSON."]


def test_without_alerts_nothing_changes() -> None:
    findings: list[Finding] = [ok("clock", "Good."), warn("backup", "Old.", "make one")]
    assert with_alerts(findings, []) == findings
