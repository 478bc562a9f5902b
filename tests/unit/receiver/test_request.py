"""Which path an A-ASSOCIATE-RQ takes, and which requests nobody serves."""

from __future__ import annotations

import struct

import pytest
from pydicom._uid_dict import UID_dictionary
from pynetdicom.presentation import build_context, negotiate_unrestricted

from appliance.receiver.request import Malformed, Path, is_storage_or_echo, path_of

CT, ECHO, FIND = b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.1.1", b"1.2.840.10008.5.1.4.1.2.2.1"
LITTLE = b"1.2.840.10008.1.2"
APPLICATION = b"1.2.840.10008.3.1.1.1"


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def context(number: int, abstract: bytes = CT, transfer: tuple[bytes, ...] = (LITTLE,)) -> bytes:
    names = b"".join(item(0x40, one) for one in transfer)
    return item(0x20, bytes([number, 0, 0, 0]) + item(0x30, abstract) + names)


def request(
    *contexts: bytes,
    user: bytes = b"",
    longest: int = 16384,
    application: bytes = APPLICATION,
    version: int = 1,
) -> bytes:
    items = item(0x10, application) + b"".join(contexts or (context(1),))
    items += item(0x50, item(0x51, struct.pack(">I", longest)) + user)
    fixed = struct.pack(">HH16s16s32x", version, 0, b"ECHO".ljust(16), b"CT1".ljust(16))
    return struct.pack(">BBI", 1, 0, len(fixed + items)) + fixed + items


def test_a_request_that_proposes_nothing_is_no_request() -> None:
    with pytest.raises(Malformed, match="no presentation context"):
        path_of(request(b""))


@pytest.mark.parametrize(
    "asked",
    [
        request(),
        request(context(1, ECHO), context(3, CT, (LITTLE, b"1.2.840.10008.1.2.1"))),
        request(context(255, b"1.2.826.0.1.3680043.9.9999.1")),
        request(longest=0),
        request(user=item(0x52, b"1.2.3") + item(0x55, b"V1")),
        request(user=item(0x53, struct.pack(">HH", 0, 0))),
        request(user=item(0x56, struct.pack(">H", 3) + b"1.2" + b"\0\1")),
    ],
    ids=["CT", "CT and echo", "private", "unlimited", "version", "async", "extended"],
)
def test_what_only_stores_and_verifies_goes_direct(asked: bytes) -> None:
    assert path_of(asked) is Path.DIRECT


@pytest.mark.parametrize(
    "asked",
    [
        request(context(1), context(3, FIND)),
        request(user=item(0x58, b"\1\0\0\4user\0\0")),
        request(user=item(0x54, struct.pack(">H", 3) + b"1.2" + b"\0\1")),
        request(user=item(0x5A, b"")),
        request(application=b"1.2.3"),
        request(version=2),
        request(longest=128),
    ],
    ids=["a query", "user identity", "roles", "an unknown item", "application", "version", "tiny"],
)
def test_everything_else_is_pynetdicoms(asked: bytes) -> None:
    assert path_of(asked) is Path.STOCK


@pytest.mark.parametrize(
    "asked",
    [
        request()[:60],
        request()[:-3],
        request(context(2)),
        request(context(1), context(1)),
        request(*(context(1) for _ in range(200))),
        request(*(context(n * 2 + 1, CT, (LITTLE,) * 100) for n in range(60))),
        request(context(1, CT, ())),
        request(context(1, b"")),
        request(user=item(0x52, b"1") * 600),
        request(user=b"\x52\0\xff\xff1"),
    ],
    ids=[
        "short", "cut", "an even ID", "an ID twice", "too many contexts", "too many syntaxes",
        "no transfer syntax", "no abstract syntax", "too many items", "a lie",
    ],
)  # fmt: skip
def test_what_is_not_well_formed_is_nobodys(asked: bytes) -> None:
    with pytest.raises(Malformed):
        path_of(asked)


def test_a_request_cut_anywhere_never_does_harm() -> None:
    whole = request(context(1, ECHO), context(3, CT), user=item(0x55, b"V1"))
    for end in range(len(whole)):
        try:
            path_of(whole[:end])
        except Malformed:
            continue


def test_direct_is_what_pynetdicoms_unrestricted_storage_accepts() -> None:
    known = [*UID_dictionary, "1.2.826.0.1.3680043.9.9999.1", "1.2.840.10008.99.99"]
    echo = [build_context(ECHO.decode())]
    for uid in known:
        [answer], _ = negotiate_unrestricted([build_context(uid)], echo, {})
        assert (answer.result == 0) == is_storage_or_echo(uid.encode()), uid
