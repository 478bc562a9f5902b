"""However a message is cut, what is kept is what was sent, byte by byte."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest

from tests.kit.raw_scu import Cut, RawSCU, roles
from tests.service.conftest import Receiver
from tests.service.receiver.sent import BOTH, CT, ECHO, STORAGE, Sent, assert_kept, ct_of

SIZES = (700, 4_096, 37_000, 140_000, 530_000)


def any_of(*sizes: int) -> Callable[[], int]:
    dice = random.Random(str(sizes))
    return lambda: dice.choice(sizes)


def in_turn(*sizes: int) -> Callable[[], int]:
    turns = itertools.cycle(sizes)
    return lambda: next(turns)


CUTS = {
    "data sets in 2 to 4084 bytes": Cut(data_set=any_of(2, 4, 8, 100, 1000, 4084)),
    "odd fragments": Cut(data_set=any_of(1, 3, 7, 999, 4083)),
    "commands in 2 to 30 bytes": Cut(command=any_of(2, 10, 30)),
    "commands of one byte each": Cut(command=lambda: 1, data_set=lambda: 50_001),
    "several PDVs a PDU": Cut(
        command=any_of(10, 50), data_set=any_of(2, 500, 3000), pdvs=any_of(1, 2, 3, 5)
    ),
    "command and data set in one PDU": Cut(
        data_set=lambda: 2000, pdvs=lambda: 20, joins_messages=True
    ),
    "empty last fragments": Cut(data_set=lambda: 5000, ends_empty=True),
    "empty last fragments, several PDVs a PDU": Cut(
        command=lambda: 40, data_set=lambda: 4000, pdvs=any_of(1, 2, 5), ends_empty=True,
        joins_messages=True,
    ),
    "empty fragments between": Cut(command=in_turn(30, 0), data_set=in_turn(3000, 0, 0, 500)),
    "PDUs of 4096 bytes": Cut(data_set=lambda: 4096 - 6),
    "PDUs as long as was announced": Cut(data_set=lambda: 131_072 - 6),
    "writes of 1 to 300,000 bytes": Cut(writes=any_of(1, 3, 7, 100, 65_536, 300_000)),
    "small writes of small fragments": Cut(
        command=any_of(2, 30), data_set=any_of(500, 4084), writes=any_of(5, 11, 13, 1460)
    ),
    "writes as TCP cuts them": Cut(writes=lambda: 1448),
}  # fmt: skip


@pytest.fixture(params=["direct", "stock"])
def scu(shared: Receiver, request: pytest.FixtureRequest) -> Iterator[RawSCU]:
    """An association on each of the two paths: who offers a role gets pynetdicom's."""
    offered = roles(CT, 1, 0) if request.param == "stock" else b""
    with RawSCU(shared.port, BOTH, user_items=offered) as one:
        yield one


def stored(scu: RawSCU, one: Sent, cut: Cut) -> Sent:
    assert scu.store(one.data_set, one.sop_class_uid, one.sop_instance_uid, STORAGE, cut) == 0
    return one


@pytest.mark.parametrize("name", CUTS)
def test_a_message_cut_so_is_kept_as_it_was_sent(shared: Receiver, scu: RawSCU, name: str) -> None:
    sent = [stored(scu, ct_of(size, size), CUTS[name]) for size in SIZES]
    assert scu.echo(ECHO, CUTS[name]) == 0
    scu.release()
    assert_kept(shared, *sent)


def test_writes_of_one_byte_each_are_a_message(shared: Receiver, scu: RawSCU) -> None:
    cut = Cut(data_set=any_of(50, 4084), writes=lambda: 1)
    sent = [stored(scu, ct_of(size, size), cut) for size in (700, 8_300)]
    scu.release()
    assert_kept(shared, *sent)


def test_messages_that_follow_each_other_are_cut_anywhere(shared: Receiver, scu: RawSCU) -> None:
    # What is asked before the answer came stands in the same buffer: one operation after the
    # other is served, in order.
    sent = [ct_of(size, size) for size in (700, 9_000, 37_000, 700)]
    cut = Cut(data_set=any_of(500, 4084))
    stream = b"".join(
        scu.store_stream(one.data_set, one.sop_class_uid, one.sop_instance_uid, STORAGE, cut)
        for one in sent
    )
    for piece in Cut(writes=any_of(1, 900, 20_000)).pieces(stream):
        scu.socket.sendall(piece)
    answers = [scu.response() for _ in sent]
    assert [(one.message_id, one.status) for one in answers] == [
        (number + 1, 0) for number in range(len(sent))
    ]
    scu.release()
    assert_kept(shared, *sent)


@pytest.mark.long
def test_an_object_of_210_mb_is_kept_as_it_was_sent(shared: Receiver, scu: RawSCU) -> None:
    for cut in (Cut(data_set=lambda: 131_072 - 6), Cut(data_set=any_of(100_001, 16_000))):
        one = stored(scu, ct_of(210_000_000), cut)
        assert_kept(shared, one)
    scu.release()
