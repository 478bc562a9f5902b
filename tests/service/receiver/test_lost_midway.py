"""What breaks off in the middle leaves nothing: no file, no row, no name, no descriptor."""

from __future__ import annotations

import struct

import psutil
import pytest

from appliance.index.states import Ending
from tests.kit.raw_scu import Cut, RawSCU, item, pdu, pdv, store_command
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.sent import (
    BOTH,
    CT,
    STORAGE,
    assert_kept,
    ct_of,
    digest_kept,
)

HOWS = ["A-ABORT", "RST", "close", "A-RELEASE"]


def leave(scu: RawSCU, how: str) -> None:
    if how == "A-ABORT":
        scu.abort()
    elif how == "RST":
        scu.reset()
    elif how == "close":
        scu.close()
    else:
        # An A-RELEASE-RQ is no answer to a data set that is due: the acceptor aborts.
        scu.socket.sendall(pdu(5, bytes(4)))
        kind, _ = scu.receive()
        assert kind == 7
        scu.close()


def ended(receiver: Receiver, calling: str) -> list[str]:
    return [
        str(row.ending)
        for row in receiver.associations()
        if row.calling_ae_title == calling and row.ending
    ]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_an_association_that_ends_within_a_message_leaves_nothing_of_it(
    shared: Receiver, how: str, share: float
) -> None:
    calling = f"{how[:8]}-{int(share * 100)}"
    before, whole, half = ct_of(9_000, 1), ct_of(20_000, 2), ct_of(900_000, 3)
    scu = RawSCU(shared.port, BOTH, calling=calling)
    for one in (before, whole):
        assert scu.store(one.data_set, CT, one.sop_instance_uid, STORAGE) == 0
    stream = scu.store_stream(half.data_set, CT, half.sop_instance_uid, STORAGE, Cut())
    # The command is whole, and of the last PDU 20 bytes are never sent.
    cut = max(int((len(stream) - 20) * share), 300)
    scu.socket.sendall(stream[:cut] if how != "A-RELEASE" else _whole_pdus(stream[:cut]))
    leave(scu, how)
    wait_for(lambda: ended(shared, calling), "the association has ended", 60)
    [ending] = ended(shared, calling)
    assert ending in (Ending.LOST, Ending.ABORTED)
    assert_kept(shared, before, whole)
    assert digest_kept(shared, half.sop_instance_uid) == ""
    assert shared.instance(half.sop_instance_uid) is None


def test_many_that_break_off_leave_no_descriptor_open(shared: Receiver) -> None:
    half = ct_of(300_000, 3)

    def open_files() -> int:
        return sum(child.num_fds() for child in shared.children() if child.is_running())

    def break_off(count: int) -> None:
        for number in range(count):
            scu = RawSCU(shared.port, BOTH, calling="LEAK")
            stream = scu.store_stream(half.data_set, CT, half.sop_instance_uid, STORAGE, Cut())
            scu.socket.sendall(stream[: 200_000 + number])
            leave(scu, HOWS[number % 3])

    break_off(6)
    wait_for(lambda: shared.waiting() == [], "nothing is left of the first ones", 60)
    before = open_files()
    break_off(30)
    wait_for(lambda: shared.waiting() == [], "nothing is left", 60)
    wait_for(lambda: open_files() <= before + 4, "all descriptors are closed", 60)
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in shared.children())


WRONG = {
    "a data set without a command": pdu(4, pdv(STORAGE, 2, b"1234")),
    "a context that was not accepted": pdu(4, pdv(77, 3, store_command(CT, "1.2", 9))),
    "a PDV longer than its PDU": pdu(4, struct.pack(">LBB", 5000, STORAGE, 3) + bytes(10)),
    "a PDV of no bytes": pdu(4, struct.pack(">L", 0) + bytes(8)),
    "a command that is none": pdu(4, pdv(STORAGE, 3, b"\xff" * 40)),
    "an unknown PDU": pdu(0x42, bytes(20)),
    "a second A-ASSOCIATE-RQ": pdu(1, bytes(200)),
    "an A-ASSOCIATE-AC": pdu(2, bytes(200)),
    "a command within a data set": pdu(4, pdv(STORAGE, 3, store_command(CT, "1.2", 9)))
    + pdu(4, pdv(STORAGE, 0, b"\x08\0\x16\0UI") + pdv(STORAGE, 3, store_command(CT, "1.3", 10))),
    "a PDU longer than was announced": pdu(4, pdv(STORAGE, 0, bytes(20)))[:2]
    + struct.pack(">L", 1 << 31) + struct.pack(">LBB", 1 << 30, STORAGE, 3) + bytes(20),
    "an endless command": b"".join(
        pdu(4, pdv(STORAGE, 1, item(1, bytes(4000)))) for _ in range(50)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_breaks_the_protocol_is_aborted_and_what_was_kept_stays(
    shared: Receiver, name: str
) -> None:
    one = ct_of(9_000, 1)
    scu = RawSCU(shared.port, BOTH, calling="WRONG")
    assert scu.store(one.data_set, CT, one.sop_instance_uid, STORAGE) == 0
    try:
        scu.socket.sendall(WRONG[name])
        kind, body = scu.receive()
        # The A-ABORT may be overtaken by a reset of what was still coming (PS3.8 9.3.8).
        assert (kind, body[2:3]) in ((7, b"\2"), (7, b"\0"), (0, b""))
    except ConnectionError:
        pass
    scu.close()
    assert_kept(shared, one)
    with RawSCU(shared.port, BOTH) as again:
        assert again.echo(3) == 0
        again.release()


def _whole_pdus(stream: bytes) -> bytes:
    at = 0
    while at + 6 <= len(stream):
        (length,) = struct.unpack_from(">L", stream, at + 2)
        if at + 6 + length > len(stream):
            break
        at += 6 + length
    return stream[:at]
