"""A broken edit leaves the last good rules in force, across a restart too."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appliance.router.routing_watch import RoutingWatcher
from appliance.settings import Settings

GOOD = "destinations: {p: {ae_title: P, host: 192.0.2.1, port: 104}}\n"
BETTER = "destinations: {q: {ae_title: Q, host: 192.0.2.1, port: 104}}\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path)
    made.routing_file.parent.mkdir()
    return made


def put(settings: Settings, text: str) -> None:
    part = settings.routing_file.with_suffix(".part")
    part.write_text(text)
    part.rename(settings.routing_file)


def names(watcher: RoutingWatcher) -> list[str]:
    return list(watcher.current().routing.destinations)


def test_a_changed_file_is_in_force_at_once(settings: Settings) -> None:
    watcher = RoutingWatcher(settings)
    assert names(watcher) == []
    put(settings, GOOD)
    assert names(watcher) == ["p"]
    put(settings, BETTER)
    assert names(watcher) == ["q"]
    settings.routing_file.unlink()
    assert names(watcher) == []


def test_ft_39_a_broken_edit_changes_nothing_but_the_banner(settings: Settings) -> None:
    put(settings, GOOD)
    watcher = RoutingWatcher(settings)
    assert watcher.current().problem == ""
    put(settings, GOOD.replace("ae_title", "ae_titel"))
    now = watcher.current()
    assert list(now.routing.destinations) == ["p"]
    assert now.is_known
    assert "last good version stays in force" in now.problem
    assert "Did you mean ae_title?" in now.problem
    put(settings, BETTER)
    assert watcher.current().problem == ""
    assert names(watcher) == ["q"]


def test_a_start_with_a_broken_file_has_the_last_good_rules(settings: Settings) -> None:
    put(settings, GOOD)
    RoutingWatcher(settings, keeps_last_good=True).current()
    put(settings, "rules: 5\n")
    now = RoutingWatcher(settings, keeps_last_good=True).current()
    assert list(now.routing.destinations) == ["p"]
    assert now.problem


def test_without_any_good_version_nothing_is_known(settings: Settings) -> None:
    put(settings, "rules: 5\n")
    now = RoutingWatcher(settings, keeps_last_good=True).current()
    assert not now.is_known
    assert "nothing is sent" in now.problem


def test_a_file_in_the_middle_of_being_written_is_not_taken_for_no_rules(
    settings: Settings,
) -> None:
    put(settings, GOOD)
    watcher = RoutingWatcher(settings)
    assert names(watcher) == ["p"]
    settings.routing_file.write_text("")
    assert names(watcher) == ["p"]
    old = time.time() - 5
    os.utime(settings.routing_file, (old, old))
    assert names(watcher) == []
