"""Who has a place, over all processes, and who gives way."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Iterator

import pytest

from appliance.receiver.connections import _PLACES_TO_ASK, Connections
from appliance.receiver.garbage import Garbage
from appliance.receiver.shared_counts import Seat, Table


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(_PLACES_TO_ASK + 2)]
    yield made
    for pair in made:
        for one in pair:
            one.close()


def is_cut(pair: tuple[socket.socket, socket.socket]) -> bool:
    pair[1].setblocking(False)
    try:
        return pair[1].recv(1) == b""
    except BlockingIOError:
        return False


def test_processes_count_together_and_a_dead_ones_part_is_taken_back() -> None:
    table = Table()
    mine = Seat(table, 0)

    def other() -> None:
        seat = Seat(table, 3)
        seat.count_association(1)
        seat.take("10.0.0.1")

    child = multiprocessing.get_context("fork").Process(target=other)
    child.start()
    child.join(30)
    mine.count_association(1)
    first = mine.take("10.0.0.1")
    mine.take("10.0.0.2")
    assert table.open_associations() == 2
    assert [table.connections_of(f"10.0.0.{n}") for n in (1, 2, 3)] == [2, 1, 0]
    table.wipe(3)
    assert table.open_associations() == 1
    assert table.connections_of("10.0.0.1") == 1
    mine.give_back(first)
    assert table.connections_of("10.0.0.1") == 0
    assert mine.take("10.0.0.3") == first, "the lowest place is taken first"


def test_the_oldest_that_has_not_asked_gives_way(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    crowd = Connections(Seat(Table(), 0), lambda: 0)
    taken = [crowd.take(pair[0], f"10.0.0.{n}") for n, pair in enumerate(pairs[:_PLACES_TO_ASK])]
    assert taken[0] is not None and not any(map(is_cut, pairs))
    taken[0].asked()
    taken[0].is_association = True
    late = crowd.take(pairs[-1][0], "10.0.1.1")
    assert late is not None
    assert [is_cut(pair) for pair in pairs[:3]] == [False, True, False]
    for one in [*taken, late]:
        assert one is not None
        one.asked()
        one.is_association = True
    assert crowd.take(pairs[-2][0], "10.0.1.2") is None, "all are of use"
    late.is_association = False
    assert crowd.take(pairs[-2][0], "10.0.1.2") is not None
    assert is_cut(pairs[-1]), "one that only verifies gives way too"


def test_an_address_has_so_many_connections_and_no_more(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    crowd = Connections(Seat(Table(), 0), lambda: 50)
    one = crowd.take(pairs[0][0], "10.0.0.1")
    crowd.take(pairs[1][0], "10.0.0.1")
    assert one is not None
    assert crowd.is_crowded("10.0.0.1", 2)
    assert not crowd.is_crowded("10.0.0.2", 2)
    assert not crowd.is_crowded("10.0.0.1", 0), "0 is no limit"
    one.leave()
    one.leave()
    assert not crowd.is_crowded("10.0.0.1", 2)


def test_garbage_of_an_address_is_told_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    garbage = Garbage()
    for number in range(5000):
        garbage.note(f"10.0.0.{number % 2}", "this is no association request")
        garbage.note(f"10.1.{number % 256}.{number // 256}", "nothing was sent")
    told = capsys.readouterr().out
    assert told.count("10.0.0.0") == told.count("10.0.0.1") == 1
    assert len(told.splitlines()) == 1000
