"""Which receiving process its parent ends: one that is stuck, while the parent itself was there."""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from unittest.mock import Mock

import pytest

from appliance.receiver import children
from appliance.receiver.children import Children, _Seat
from appliance.receiver.listener import Listening


@pytest.fixture
def process() -> Iterator[BaseProcess]:
    one = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    one.start()
    yield one
    one.kill()
    one.join(30)


def test_one_that_was_not_well_for_long_is_ended_once(
    process: BaseProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.monotonic()
    monkeypatch.setattr(children.time, "monotonic", lambda: clock)
    with socket.socket() as listening:
        found = Children(Listening(listening), Mock())
        seat = _Seat(0, process)
        found._seats.append(seat)
        well_at = clock
        for _ in range(30):
            clock += 4
            seat.pulse.set(well_at)
            assert found.end_stuck(120) == {}
        clock += 4
        seat.pulse.set(well_at)
        assert list(found.end_stuck(120)) == [process.pid]
        clock += 4
        assert found.end_stuck(120) == {}, "it is as good as dead"
    process.join(30)
    assert process.exitcode == -9


def test_one_that_says_nothing_any_more_has_less_time(
    process: BaseProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.monotonic()
    monkeypatch.setattr(children.time, "monotonic", lambda: clock)
    found = Children(Listening(Mock()), Mock())
    found._seats.append(_Seat(0, process))
    for _ in range(3):
        clock += 3
        assert found.end_stuck(120) == {}
    clock += 3
    assert found.end_stuck(120) == {process.pid: 12}
    process.join(30)


def test_while_the_parent_was_away_nobody_is_to_blame(
    process: BaseProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.monotonic()
    monkeypatch.setattr(children.time, "monotonic", lambda: clock)
    with socket.socket() as listening:
        found = Children(Listening(listening), Mock())
        found._seats.append(_Seat(0, process))
        well_at = clock
        clock += 3600  # the whole node was stopped
        assert found.end_stuck(120) == {}
        found._seats[0].pulse.set(well_at)
        for _ in range(29):
            clock += 4
            found._seats[0].pulse.set(well_at)
            assert found.end_stuck(120) == {}
        found._seats[0].pulse.set(clock)
        for _ in range(29):
            clock += 4
            found._seats[0].pulse.set(clock - 20)
            assert found.end_stuck(120) == {}
    assert process.is_alive()
