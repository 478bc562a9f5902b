"""Telling somebody: real servers that take it, refuse it, redirect it, or say nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.health import tell
from appliance.health.tell import Message
from appliance.settings import Alerts, Settings
from tests.kit import listeners
from tests.kit.listeners import Hook, Mails
from tests.kit.waiting import free_port

MESSAGE = Message(
    node="BROOKBOX", state="open", kind="disk", subject="data_root", sentence="It is full.",
    remedy="make room", began_at="2026-03-01T12:00:00Z",
)  # fmt: skip


@pytest.fixture
def hook() -> Iterator[Hook]:
    with listeners.hook() as made:
        yield made


@pytest.fixture
def mails() -> Iterator[Mails]:
    with listeners.mails() as made:
        yield made


def test_a_webhook_gets_json_and_the_token_of_its_file(hook: Hook, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    rules = Alerts(webhook_url=hook.url, webhook_token_file="token")
    assert tell.by_webhook(rules, tmp_path, MESSAGE) == ""
    [posted], [headers] = hook.posted, hook.headers
    assert posted["sentence"] == "It is full." and posted["state"] == "open"
    assert headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_what_is_not_taken_is_said_and_a_redirect_is_not_followed(
    hook: Hook, tmp_path: Path, status: int
) -> None:
    hook.answers = status
    why = tell.by_webhook(Alerts(webhook_url=hook.url), tmp_path, MESSAGE)
    assert why == f"127.0.0.1 answered {status}" and hook.refused == 1 and hook.posted == []


def test_nobody_there_a_mute_one_and_a_missing_token_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Alerts(webhook_url=f"http://127.0.0.1:{free_port()}/")
    assert "127.0.0.1 was not reached" in tell.by_webhook(gone, tmp_path, MESSAGE)
    monkeypatch.setattr(tell, "_PATIENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        rules = Alerts(webhook_url=f"http://127.0.0.1:{mute.getsockname()[1]}/")
        assert "timed out" in tell.by_webhook(rules, tmp_path, MESSAGE)
        no_file = replace(rules, webhook_token_file="nowhere")
        assert "nowhere" in tell.by_webhook(no_file, tmp_path, MESSAGE)


def test_a_mail_says_what_is_wrong_and_what_to_do(mails: Mails, tmp_path: Path) -> None:
    rules = Alerts(
        mail_host="127.0.0.1", mail_port=mails.port, mail_security="none",
        mail_from="node@example", mail_to=("a@example", "b@example"),
    )  # fmt: skip
    assert tell.by_mail(rules, tmp_path, MESSAGE) == ""
    assert mails.recipients == ["a@example", "b@example"]
    assert "Subject: BROOKBOX: disk data_root" in mails.texts[0]
    assert "It is full.\r\nTry: make room" in mails.texts[0]
    mails.is_full = True
    assert "127.0.0.1 did not take it" in tell.by_mail(rules, tmp_path, MESSAGE)
    # This server offers no STARTTLS: then the mail stays here.
    mails.is_full = False
    sent = len(mails.texts)
    assert tell.by_mail(replace(rules, mail_security="starttls"), tmp_path, MESSAGE) != ""
    assert len(mails.texts) == sent


def test_only_the_ways_that_are_set_are_gone(tmp_path: Path) -> None:
    assert tell.ways(Settings(home=tmp_path)) == {}
    both = Alerts(webhook_url="http://x/", mail_host="x")
    assert set(tell.ways(Settings(home=tmp_path, alerts=both))) == {"webhook", "mail"}
