"""Names are looked up without holding the router up."""

from __future__ import annotations

import ipaddress
import threading
import time

from appliance.router import host_names
from appliance.router.host_names import HostNames
from appliance.router.own_node import Address
from tests.kit.waiting import wait_for

HERE: tuple[Address, ...] = (ipaddress.ip_address("10.0.0.7"),)


def test_an_answer_is_given_and_kept() -> None:
    asked: list[str] = []

    def look_up(host: str) -> tuple[Address, ...]:
        asked.append(host)
        return HERE

    names = HostNames(look_up)
    assert [names.addresses("pacs") for _ in range(3)] == [HERE] * 3
    assert asked == ["pacs"]


def test_a_name_server_that_does_not_answer_holds_nobody(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    answers, dead = threading.Event(), threading.Event()

    def look_up(host: str) -> tuple[Address, ...]:
        answers.wait()
        return () if dead.is_set() else HERE

    monkeypatch.setattr(host_names, "_PATIENCE_SECONDS", 0.05)
    names = HostNames(look_up)
    began = time.monotonic()
    assert [names.addresses("pacs") for _ in range(20)] == [()] * 20
    assert time.monotonic() - began < 5, "each one waits for its own patience at most"
    answers.set()
    wait_for(lambda: names.addresses("pacs") == HERE, "the late answer is known")
    monkeypatch.setattr(host_names, "_FRESH_SECONDS", 0.0)
    dead.set()
    assert names.addresses("pacs") == HERE, "what was known stays when the name server is away"
