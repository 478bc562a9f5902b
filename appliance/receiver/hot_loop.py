"""The loop that every byte of a direct association goes through (PS3.8 9.3.5, PS3.7 6.3).

The thread that reads is the one that writes the file and answers: no queue, no poll, no
second thread.  PDVs are found in place in one buffer; data set fragments become slices of
it and go to the file when it is full.  What is kept, and what is answered, `intake` says.

Most senders leave Nagle's algorithm on and write a PDU in two pieces: each image would
wait 40 ms for our delayed acknowledgement, so TCP_QUICKACK is set again before each recv in
the middle of a message: it acknowledges at once what came.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct

from appliance.dicom import command_set, pdu
from appliance.dicom.command_set import Request
from appliance.index.states import Ending
from appliance.intake.way import Answer, Draft, Way
from appliance.receiver import storing
from appliance.receiver.associations import OpenAssociation
from appliance.receiver.pulse import SLOWEST_BYTES_A_SECOND, WAITING
from appliance.settings import Receiver

BUFFER_BYTES = 128 * 1024
_LEAST_ROOM_BYTES = 4096  # in the buffer for a recv; below it what is there is written first
_MOST_PIECES = 2000
_LONGEST_COMMAND = 16 * 1024
_SLACK_BYTES = 1 << 20  # what is too long is still answered up to here, then cut off
_TOLERANCE_BYTES = 12  # some peers do not count the heads (PS3.8 D.1)
_UNLIMITED = 1 << 32
_P_DATA_AND_PDV = Struct(">BBIIBB").unpack_from
_HEAD = Struct(">BBI").unpack_from
_PDV = Struct(">IBB").unpack_from
_QUICKACK = socket.TCP_QUICKACK
_TCP = socket.IPPROTO_TCP


# Taken again by the next association: a new one costs as much as a small image.
_idle_buffers: deque[bytearray] = deque(maxlen=8)


class Abort(Exception):
    """The association is aborted by us; `reason` is PS3.8 9.3.8's, the words are for the log."""

    def __init__(self, words: str, reason: int = pdu.NOT_SPECIFIED) -> None:
        super().__init__(words)
        self.reason = reason


class Lost(Exception):
    """The connection is gone, or its peer says nothing any more."""


@dataclass(slots=True)
class _Message:
    """A C-STORE request whose data set is coming in."""

    context_id: int
    request: Request
    draft: Draft
    answer: Answer | None = None  # set when it will not be kept; the rest is only read
    size_bytes: int = 0


class HotLoop:
    """One association; `ways` are its accepted contexts by ID, None for Verification."""

    def __init__(
        self,
        connection: socket.socket,
        one: OpenAssociation,
        ways: Mapping[int, Way | None],
        rules: Callable[[], Receiver],
    ) -> None:
        self._connection = connection
        self._one = one
        self._ways = ways
        self._rules = rules
        announced = rules().max_pdu_bytes
        self._longest_pdu = announced + _TOLERANCE_BYTES if announced else _UNLIMITED
        self._buffer = _buffer()
        self._view = memoryview(self._buffer)
        self._message: _Message | None = None
        self._is_busy = False  # in the middle of a message or a PDU
        self._taken = 0  # bytes, for the pace
        self._mark = 0
        self._check_at = time.monotonic() + rules().pdu_timeout_seconds

    def run(self) -> Ending:
        """Serve until the association ends; what was not whole then leaves nothing behind."""
        try:
            return self._run()
        finally:
            if self._message is not None:
                self._message.draft.drop()
            _idle_buffers.append(self._buffer)

    def _run(self) -> Ending:
        # One long function: at 30,000 PDUs a second each call and each attribute counts.
        connection, one, step = self._connection, self._one, self._one.step
        recv_into, set_option = connection.recv_into, connection.setsockopt
        monotonic = time.monotonic
        longest_pdu = self._longest_pdu
        buffer, view, size = self._buffer, self._view, len(self._buffer)
        at = end = 0  # what is read from the socket and not yet understood
        pdu_left = 0  # bytes of this PDU after the current PDV
        fragment_left = -1  # bytes of this PDV; -1 between two of them
        control = context_id = 0
        command = b""
        message: _Message | None = None
        pieces: list[memoryview] = []  # of the data set, in the buffer, not yet written
        while True:
            while True:
                if fragment_left < 0:
                    if pdu_left == 0:
                        if end - at < 12:
                            if end - at < 6:
                                break
                            kind, _, length = _HEAD(buffer, at)
                            if kind != 4 or length < 6:
                                return self._other(kind, length, message)
                            break
                        kind, _, pdu_left, length, context_id, control = _P_DATA_AND_PDV(buffer, at)
                        if kind != 4 or pdu_left > longest_pdu:
                            return self._other(kind, pdu_left, message)
                        at += 12
                    else:
                        if end - at < 6:
                            break
                        length, context_id, control = _PDV(buffer, at)
                        at += 6
                    pdu_left -= length + 4
                    if length < 2 or pdu_left < 0:
                        raise Abort("a PDV is longer than its PDU", pdu.INVALID_PARAMETER)
                    fragment_left = length - 2
                    if control & 1:
                        if message is not None:
                            raise Abort("a command within a data set", pdu.UNEXPECTED_PARAMETER)
                    elif message is None or context_id != message.context_id:
                        raise Abort("a data set without a command", pdu.UNEXPECTED_PARAMETER)
                count = end - at
                if count > fragment_left:
                    count = fragment_left
                if control & 1:
                    command += buffer[at : at + count]
                    if len(command) > _LONGEST_COMMAND:
                        raise Abort("a command that is too long", pdu.INVALID_PARAMETER)
                elif count:
                    pieces.append(view[at : at + count])
                at += count
                fragment_left -= count
                if fragment_left:
                    break
                fragment_left = -1
                if not control & 2:
                    continue
                if control & 1:
                    self._message = message = self._begin(context_id, command)
                    command = b""
                else:
                    assert message is not None
                    self._finish(message, pieces)
                    self._message = message = None
                    pieces = []
            if pieces and (size - end < _LEAST_ROOM_BYTES or len(pieces) > _MOST_PIECES):
                assert message is not None
                self._write(message, pieces)
                pieces = []
            if not pieces:
                if at == end:
                    at = end = 0
                elif size - end < _LEAST_ROOM_BYTES:
                    buffer[: end - at] = buffer[at:end]
                    at, end = 0, end - at
            self._is_busy = is_busy = message is not None or (
                fragment_left >= 0 or pdu_left > 0 or end > at or command != b""
            )
            step.since = WAITING
            while True:
                if is_busy:
                    set_option(_TCP, _QUICKACK, 1)
                try:
                    count = recv_into(view[end:])
                    break
                except BlockingIOError:
                    self._judge_silence(monotonic())
            now = monotonic()
            step.since = now
            if not count or one.is_aborted_by_us:
                raise Lost("the connection was closed")
            one.last_bytes_at = now
            self._taken += count
            end += count
            if now > self._check_at:
                self._judge_pace(now)

    # -- a message ------------------------------------------------------------------------------

    def _begin(self, context_id: int, command: bytes) -> _Message | None:
        """Act on a whole command set; the message when a data set follows it."""
        try:
            request = Request(command)
        except ValueError as error:
            raise Abort(str(error), pdu.INVALID_PARAMETER) from error
        if context_id not in self._ways:
            raise Abort("a presentation context that was not accepted", pdu.INVALID_PARAMETER)
        way = self._ways[context_id]
        self._mark, self._check_at = self._taken, self._next_check(self._one.last_bytes_at)
        if request.field == command_set.C_STORE_RQ and way is not None:
            draft = way.begin(_uid(request.sop_class), _uid(request.sop_instance))
            message = _Message(context_id, request, draft)
            if request.has_data_set:
                return message
            self._finish(message, [])  # it is refused in words
        elif request.field == command_set.C_ECHO_RQ and not request.has_data_set:
            answer = command_set.echo_response(context_id, request.message_id, request.sop_class)
            self._connection.sendall(answer)
        elif request.field != command_set.C_CANCEL_RQ:
            # A C-CANCEL comes too late or for nothing: it has no answer (PS3.7 9.3.2.3).
            raise Abort("a service that was not negotiated")
        return None

    def _write(self, message: _Message, pieces: list[memoryview]) -> None:
        """Write what came of a data set, unless it is longer than may be."""
        message.size_bytes += sum(map(len, pieces))
        most = self._rules().max_instance_mb * 1_000_000
        if message.size_bytes > most:
            if message.size_bytes > most + _SLACK_BYTES:
                raise Abort("instance too long")
            message.draft.drop()
            message.answer = storing.TOO_LONG
        elif message.answer is None:
            message.draft.write(pieces)

    def _finish(self, message: _Message, pieces: list[memoryview]) -> None:
        """Keep an instance that is whole, and answer."""
        one, request = self._one, message.request
        size = message.size_bytes + sum(map(len, pieces))
        if size > self._rules().max_instance_mb * 1_000_000:
            self._write(message, pieces)
        one.step.since = one.last_bytes_at + size / SLOWEST_BYTES_A_SECOND
        answer = message.answer or self._keep(message, pieces)
        one.tally.note_answer(answer.status)
        self._connection.sendall(
            command_set.store_response(
                message.context_id,
                request.message_id,
                answer.status,
                request.sop_class,
                request.sop_instance,
                answer.comment,
            )
        )

    def _keep(self, message: _Message, pieces: list[memoryview]) -> Answer:
        return storing.answered(lambda: message.draft.keep(pieces), self._one.id)

    # -- everything else ------------------------------------------------------------------------

    def _other(self, kind: int, length: int, message: _Message | None) -> Ending:
        """Act on a PDU that is no P-DATA-TF, or cannot be one."""
        if kind == pdu.ABORT:
            return Ending.ABORTED
        if kind == pdu.RELEASE_RQ and message is None:
            self._connection.sendall(pdu.release_response())
            return Ending.RELEASED
        if kind == pdu.P_DATA_TF:
            raise Abort(f"a PDU of {length} bytes", pdu.INVALID_PARAMETER)
        is_known = pdu.ASSOCIATE_RQ <= kind <= pdu.ABORT
        raise Abort(
            f"a PDU of type {kind}", pdu.UNEXPECTED_PDU if is_known else pdu.UNRECOGNISED_PDU
        )

    def _judge_silence(self, now: float) -> None:
        """Raise when a peer has been silent for too long; it is asked now and then."""
        if self._one.is_aborted_by_us:
            raise Lost("the association is aborted")
        if now - self._one.last_bytes_at >= self._rules().network_timeout_seconds:
            raise Lost("the network timeout is over")
        if self._is_busy and now > self._check_at:
            self._judge_pace(now)

    def _judge_pace(self, now: float) -> None:
        """Raise when what is to be a message comes slower than anybody sends."""
        rules = self._rules()
        least = rules.least_bytes_a_second * rules.pdu_timeout_seconds
        if self._is_busy and self._taken - self._mark < least:
            raise Abort("it sends too slowly: receiver.least_bytes_a_second")
        self._mark, self._check_at = self._taken, self._next_check(now)

    def _next_check(self, now: float) -> float:
        return now + self._rules().pdu_timeout_seconds


def _buffer() -> bytearray:
    try:
        return _idle_buffers.pop()
    except IndexError:
        return bytearray(BUFFER_BYTES)


def _uid(value: bytes) -> str:
    """Read a UID as it was sent; whether it may be one is checked where it is used."""
    return value.rstrip(b"\0 ").decode("latin-1")
