"""Alerts in the index: one open for each cause, quiet when it comes and goes, told once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from appliance.index import alerts
from appliance.index.alerts import Alert
from appliance.index.database import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def begin(db: Database, now: datetime = NOW, sentence: str = "It is full.") -> str:
    return alerts.begin(db, "disk", "data_root", sentence, "make room", now)


def open_now(db: Database) -> list[Alert]:
    with db.read() as connection:
        return alerts.open_alerts(connection)


def untold(db: Database, now: datetime) -> list[Alert]:
    with db.read() as connection:
        return alerts.untold(connection, now)


def test_of_many_that_notice_one_thing_one_raises_it(db: Database) -> None:
    with ThreadPoolExecutor(6) as pool:
        how = sorted(pool.map(lambda _: begin(db), range(6)))
    assert how == ["raised", *["still"] * 5]
    assert len(open_now(db)) == 1
    assert begin(db, sentence="It is fuller.") == "still"
    assert open_now(db)[0].sentence == "It is fuller."


def test_one_that_ended_begins_anew_quietly_for_ten_minutes(db: Database) -> None:
    begin(db)
    [first] = open_now(db)
    assert alerts.end(db, first.id, NOW) and not alerts.end(db, first.id, NOW)
    assert open_now(db) == []
    assert begin(db, NOW + 9 * MINUTE) == "reopened"
    assert [(one.id, one.began_at) for one in open_now(db)] == [(first.id, NOW)]
    alerts.end(db, first.id, NOW + 10 * MINUTE)
    assert begin(db, NOW + 21 * MINUTE) == "raised"
    assert [one.id for one in open_now(db)] != [first.id]


def test_a_cause_that_comes_and_goes_is_told_once_and_its_end_once(db: Database) -> None:
    begin(db)
    [one] = untold(db, NOW)
    assert alerts.note_told(db, one, NOW) and not alerts.note_told(db, one, NOW)
    for minute in (1, 3, 5):
        alerts.end(db, one.id, NOW + minute * MINUTE)
        assert untold(db, NOW + minute * MINUTE) == [], "it may begin again in a moment"
        assert begin(db, NOW + (minute + 1) * MINUTE) == "reopened"
        assert untold(db, NOW + (minute + 1) * MINUTE) == [], "it was told already"
    alerts.end(db, one.id, NOW + 7 * MINUTE)
    [over] = untold(db, NOW + 17 * MINUTE)
    assert over.ended_at == NOW + 7 * MINUTE
    assert alerts.note_told(db, over, NOW + 17 * MINUTE)
    assert untold(db, NOW + 60 * MINUTE) == []


def test_the_end_of_what_was_never_told_is_not_told(db: Database) -> None:
    begin(db)
    alerts.end(db, open_now(db)[0].id, NOW + MINUTE)
    assert untold(db, NOW + 60 * MINUTE) == []


def test_what_has_been_over_for_long_goes(db: Database) -> None:
    begin(db)
    alerts.end(db, open_now(db)[0].id, NOW)
    alerts.begin(db, "clock", "jump", "It jumped.", "look", NOW)
    assert alerts.forget(db, NOW) == 0 and alerts.forget(db, NOW + MINUTE) == 1
    assert [one.kind for one in open_now(db)] == ["clock"]
