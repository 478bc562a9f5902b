"""The loop that reads PDUs keeps what a plain reader puts together, and ends in a known way.

The socket, the disk and the clock are made of nothing here: only the parsing is meant.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from appliance.index.states import Ending
from appliance.intake.draft import Answer
from appliance.intake.tally import Tally
from appliance.receiver import request
from appliance.receiver.hot_loop import Abort, HotLoop, Lost
from appliance.receiver.negotiation import Negotiator
from appliance.receiver.pulse import Step
from appliance.settings import Receiver
from tests.kit import raw_scu
from tests.kit.raw_scu import Cut

INSTRUMENTED = ["appliance.receiver", "appliance.dicom.command_set"]
_CT = "1.2.840.10008.5.1.4.1.1.2"
_RULES = Receiver(max_pdu_bytes=16_384, max_instance_mb=1)
_STORAGE, _ECHO = 1, 3
_negotiator = Negotiator(_RULES.max_pdu_bytes)


@dataclass(slots=True)
class _Connection:
    """A socket that gives what is in it, in pieces of any size, and takes every answer."""

    stream: bytes
    dice: random.Random
    at: int = 0
    answers: list[bytes] = field(default_factory=list)

    def recv_into(self, view: memoryview) -> int:
        assert len(view) > 0, "a recv of nothing would look like the end"
        most = self.dice.choice((1, 7, 500, 70_000))
        piece = self.stream[self.at : self.at + min(most, len(view))]
        view[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)

    def sendall(self, answer: bytes) -> None:
        self.answers.append(answer)

    def setsockopt(self, *_: int) -> None:
        pass


@dataclass(slots=True)
class _Draft:
    """An instance in memory."""

    kept: list[bytes]
    content: bytearray = field(default_factory=bytearray)
    is_dropped: bool = False

    def write(self, views: Sequence[memoryview]) -> None:
        assert not self.is_dropped
        for view in views:
            self.content += view

    def keep(self, views: Sequence[memoryview]) -> Answer:
        self.write(views)
        self.kept.append(bytes(self.content))
        return Answer(0)

    def drop(self) -> None:
        self.is_dropped = True


@dataclass(slots=True)
class _Way:
    """A way that keeps in memory."""

    kept: list[bytes] = field(default_factory=list)
    drafts: list[_Draft] = field(default_factory=list)

    def begin(self, sop_class_uid: str, sop_instance_uid: str) -> _Draft:
        self.drafts.append(_Draft(self.kept))
        return self.drafts[-1]


def seeds() -> Iterator[bytes]:
    """Give inputs to begin with: whole streams, and requests."""
    dice = random.Random(1)
    for number in range(30):
        cut = Cut(
            command=lambda: dice.choice((5, 40, 200)),
            data_set=lambda: dice.choice((1, 50, 700)),
            pdvs=lambda: dice.choice((1, 2, 5)),
            ends_empty=number % 3 == 0,
            joins_messages=number % 2 == 0,
        )
        command = raw_scu.store_command(_CT, f"1.2.{number}", number)
        stream = cut.pdus(_STORAGE, command, bytes(range(256)) * dice.randrange(1, 6))
        echo = raw_scu.simple_command(raw_scu.C_ECHO, raw_scu.VERIFICATION, number)
        stream += cut.pdus(_ECHO, echo, None) + cut.pdus(_STORAGE, raw_scu.cancel_command(1), None)
        yield bytes((number * 2,)) + stream * 2 + raw_scu.pdu(5, bytes(4))
    contexts = {(1, _CT): ["1.2.840.10008.1.2"], (3, raw_scu.VERIFICATION): ["1.2.840.10008.1.2"]}
    yield b"\1" + raw_scu.request(contexts)
    yield b"\1" + raw_scu.request(contexts, user_items=raw_scu.roles(_CT, 1, 1))


def one_input(data: bytes) -> None:
    """Read a request, or serve an association; AssertionError where it is not as it should be."""
    if len(data) < 2:
        return
    if data[0] % 2:
        _read_request(data[1:])
    else:
        _serve(data[1:], random.Random(data[0]))


def _read_request(asked: bytes) -> None:
    try:
        path = request.path_of(asked)
    except request.Malformed:
        return
    assert request.unreadable_ae_title(asked) in ("", "calling", "called")
    if path is request.Path.DIRECT:
        try:
            negotiated = _negotiator.answer(asked)
        except Exception:  # the receiver has its boundary here: what pynetdicom cannot read
            return
        assert negotiated.accepted[0] == 2
        assert set(negotiated.contexts) <= set(range(1, 256, 2))


def _serve(stream: bytes, dice: random.Random) -> None:
    connection, way = _Connection(stream, dice), _Way()
    one = SimpleNamespace(
        id="fuzzed", step=Step(), tally=Tally(), last_bytes_at=0.0, is_aborted_by_us=False
    )
    ways = {_STORAGE: way, _ECHO: None}
    loop = HotLoop(cast(Any, connection), cast(Any, one), cast(Any, ways), lambda: _RULES)
    expected, is_whole = _plainly(stream)
    try:
        ending = loop.run()
        assert ending in (Ending.RELEASED, Ending.ABORTED)
    except Lost:
        assert not is_whole or way.kept == expected
    except Abort as abort:
        assert str(abort)
        assert 0 <= abort.reason <= 6
    assert way.kept == expected[: len(way.kept)]
    assert one.tally.instances == len(way.kept)
    unfinished = [draft for draft in way.drafts if bytes(draft.content) not in way.kept]
    assert all(draft.is_dropped for draft in unfinished)


def _plainly(stream: bytes) -> tuple[list[bytes], bool]:
    """Put data sets together as PS3.8 9.3.5 says, and say whether all PDUs were whole.

    What a command says is not judged: where the loop aborts, what it kept is the beginning.
    """
    found: list[bytes] = []
    command, data_set = b"", b""
    at = 0
    while at + 6 <= len(stream):
        kind, length = struct.unpack_from(">BxL", stream, at)
        body = stream[at + 6 : at + 6 + length]
        if kind != 4:
            return found, False
        at += 6 + length
        inner = 0
        while inner < length:
            if inner + 6 > len(body):
                return found, False
            count, _, control = struct.unpack_from(">LBB", body, inner)
            fragment = body[inner + 6 : inner + 4 + count]
            if count < 2 or inner + 4 + count > len(body):
                return found, False
            inner += 4 + count
            if control & 1:
                command += fragment
                if control & 2:
                    if _is_store_of_nothing(command):
                        found.append(b"")
                    command = b""
            else:
                data_set += fragment
                if control & 2:
                    found.append(data_set)
                    data_set = b""
    return found, at == len(stream)


def _is_store_of_nothing(command: bytes) -> bool:
    """Say whether it is a C-STORE that says it has no data set: an empty one is judged then."""
    values: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(command):
        element, length = struct.unpack_from("<2xHL", command, at)
        values[element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return (values.get(0x0100), values.get(0x0800)) == (b"\1\0", b"\1\1")
