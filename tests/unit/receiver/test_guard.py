"""The guard before pynetdicom: types, lengths and times of PDUs, wherever they are cut."""

from __future__ import annotations

import struct

import pytest

from appliance.dicom import pdu
from appliance.receiver.guard import Guard, Violation
from tests.promises.hostile import request_of
from tests.service.receiver.peer import raw_request

REQUEST = raw_request(b"ECHO", b"CT1")


def data(length: int, announced: int | None = None) -> bytes:
    return struct.pack(">BBI", 4, 0, length if announced is None else announced) + bytes(length)


def test_what_is_well_formed_passes_however_it_is_cut() -> None:
    asked: list[bool] = []
    whole = REQUEST + data(100) + data(4096 + 12) + pdu.release_request()
    for step in (1, 5, 6, 7, 1000, len(whole)):
        guard = Guard(4096, 30, lambda: asked.append(True))
        for at in range(0, len(whole), step):
            guard.take(whole[at : at + step], 0)
    assert len(asked) == 6, "each time, once its request was whole"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", pdu.UNRECOGNISED_PDU),
        (data(10), pdu.UNEXPECTED_PDU),
        (b"\1\0\xff\xff\xff\xff", pdu.INVALID_PARAMETER),
        (b"\1\0\0\3\0\0", pdu.INVALID_PARAMETER),
        (REQUEST + data(0, 4096 + 13), pdu.INVALID_PARAMETER),
        (REQUEST + b"\5\0\0\1\0\0", pdu.INVALID_PARAMETER),
    ],
    ids=["HTTP", "P-DATA first", "4 GiB", "over 128 KiB", "over the maximum", "a long release"],
)
def test_what_breaks_the_rules_is_cut_off_at_its_head(said: bytes, reason: int) -> None:
    guard = Guard(4096, 30)
    with pytest.raises(Violation) as caught:
        for at in range(len(said)):
            guard.take(said[at : at + 1], 0)
    assert caught.value.reason == reason


def test_the_items_of_a_request_are_counted_before_anybody_decodes_it() -> None:
    asked: list[bool] = []
    guard = Guard(4096, 30, lambda: asked.append(True))
    whole = request_of(128, 33)
    guard.take(whole[:-1], 0)
    with pytest.raises(Violation, match="more than 4096 transfer syntaxes") as caught:
        guard.take(whole[-1:], 0)
    assert caught.value.reason == pdu.INVALID_PARAMETER
    assert not asked
    Guard(4096, 30).take(request_of(128, 32), 0)


def test_a_pdu_has_its_time_and_the_pause_between_two_is_free() -> None:
    guard = Guard(4096, 30)
    guard.take(REQUEST[:50], 0)
    guard.take(REQUEST[50:60], 30)
    with pytest.raises(Violation):
        guard.take(REQUEST[60:61], 31)
    guard = Guard(4096, 30)
    guard.take(REQUEST, 0)
    guard.take(data(10), 1000)


def test_where_no_maximum_is_announced_memory_sets_one() -> None:
    guard = Guard(0, 30)
    guard.take(REQUEST + data(1 << 20), 0)
    with pytest.raises(Violation):
        guard.take(struct.pack(">BBI", 4, 0, 1 << 30), 0)
