"""The teller: each alert by each way once, tried again later, and never in anybody's way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.housekeeper import teller
from appliance.housekeeper.teller import Teller
from appliance.index import alerts
from appliance.index.database import Database
from appliance.settings import Alerts, Settings
from tests.kit import listeners
from tests.kit.listeners import Hook, Mails
from tests.kit.waiting import wait_for

NOW = datetime.now(UTC)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listeners.hook() as made:
        yield made


@pytest.fixture
def mails() -> Iterator[Mails]:
    with listeners.mails() as made:
        yield made


@pytest.fixture
def settings(tmp_path: Path, hook: Hook, mails: Mails) -> Settings:
    rules = Alerts(
        webhook_url=hook.url, mail_host="127.0.0.1", mail_port=mails.port, mail_security="none",
        mail_from="node@example", mail_to=("a@example",),
    )  # fmt: skip
    return Settings(home=tmp_path, alerts=rules)


def untold(db: Database, now: datetime = NOW) -> list[alerts.Alert]:
    with db.read() as connection:
        return alerts.untold(connection, now)


def test_an_alert_goes_by_every_way_once_and_so_does_its_end(
    db: Database, settings: Settings, hook: Hook, mails: Mails
) -> None:
    one = Teller(db)
    alerts.begin(db, "disk", "data_root", "It is full.", "make room", NOW)
    one.look(settings, NOW)
    wait_for(lambda: not untold(db), "it is told")
    one.look(settings, NOW)
    assert [posted["state"] for posted in hook.posted] == ["open"] and len(mails.texts) == 1
    with db.read() as connection:
        [told] = alerts.open_alerts(connection)
    later = NOW + timedelta(minutes=30)
    alerts.end(db, told.id, NOW + timedelta(minutes=1))
    one.look(settings, later)
    wait_for(lambda: not untold(db, later), "its end is told")
    assert [posted["state"] for posted in hook.posted] == ["open", "ended"]
    assert "It is over since" in mails.texts[1]


def test_a_way_that_fails_is_tried_again_and_the_other_is_not_repeated(
    db: Database, settings: Settings, hook: Hook, mails: Mails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teller, "_FIRST_PAUSE_SECONDS", 0.3)
    hook.answers = 503
    one = Teller(db)
    alerts.begin(db, "disk", "data_root", "It is full.", "make room", NOW)

    def told() -> bool:
        one.look(settings, NOW)
        return not untold(db)

    wait_for(lambda: told() or hook.refused >= 2, "it is tried twice")
    assert untold(db) and len(mails.texts) == 1
    hook.answers = 204
    wait_for(told, "it is told")
    assert len(hook.posted) == 1 and len(mails.texts) == 1


def test_a_way_that_says_nothing_holds_nobody_up(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teller.tell, "ways", lambda _: {"slow": lambda _: time.sleep(3) or ""})
    one = Teller(db)
    alerts.begin(db, "disk", "data_root", "It is full.", "make room", NOW)
    one.look(settings, NOW)
    one.look(settings, NOW)
    assert untold(db), "the look came back before the way had taken anything"
    wait_for(lambda: not untold(db), "it is told at last")
