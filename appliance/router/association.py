"""An association that this node requests: used, released or aborted.

A message is sent from the file as it is: heads of P-DATA-TF and slices of what was read
go to the kernel together, so that the peer is not kept waiting for the second half of
anything.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Sequence
from types import TracebackType

from appliance.dicom import command_set, pdu
from appliance.dicom.command_set import Answer, StoreRequests
from appliance.errors import AssociationFailed
from appliance.router import negotiation, own_node, wire
from appliance.router.data_set import DataSet
from appliance.router.negotiation import WE_RECEIVE_BYTES, Pair
from appliance.router.rules import Destination
from appliance.router.wire import Piece, Wire
from appliance.settings import Settings

ECHO_PAIR: Pair = (command_set.VERIFICATION, "1.2.840.10008.1.2")
_RELEASE_SECONDS = 5.0


class Context:
    """An accepted presentation context, with the bytes that all its messages share."""

    __slots__ = ("_room", "_whole_head", "number", "requests")

    def __init__(self, number: int, sop_class_uid: str, max_pdu_bytes: int) -> None:
        self.number = number
        self.requests = StoreRequests(sop_class_uid)
        # Fragments have an even length (PS3.8 annex E.1).
        self._room = (max_pdu_bytes - pdu.PDV_HEAD_BYTES) & ~1
        self._whole_head = pdu.data_head(number, 0, self._room)

    def command(self, command: bytes) -> list[Piece]:
        """Give the P-DATA of a command set."""
        made: list[Piece] = []
        for at in range(0, len(command), self._room):
            fragment = command[at : at + self._room]
            is_last = at + self._room >= len(command)
            control = pdu.IS_COMMAND | (pdu.IS_LAST if is_last else 0)
            made.append(pdu.data_head(self.number, control, len(fragment)) + fragment)
        return made

    def data(self, window: memoryview, *, is_last: bool) -> list[Piece]:
        """Give the P-DATA of a part of a data set: heads, and slices of the part."""
        room, head = self._room, self._whole_head
        pieces: list[Piece] = []
        at = 0
        for at in range(room, len(window), room):
            pieces += (head, window[at - room : at])
        rest = window[at:]
        pieces += (pdu.data_head(self.number, pdu.IS_LAST if is_last else 0, len(rest)), rest)
        return pieces


class Association:
    """An open association; `contexts` are the accepted pairs, `refused` the others with why."""

    def __init__(self, connection: Wire, destination: Destination, pairs: Sequence[Pair]) -> None:
        self._wire = connection
        self._destination = destination
        self._message_id = 0
        accepted = negotiation.negotiate(connection, destination, pairs)
        self.refused = accepted.refused
        self.contexts = {
            pair: Context(number, pair[0], accepted.max_pdu_bytes)
            for pair, number in accepted.contexts.items()
        }

    def __enter__(self) -> Association:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release() if kind is None else self.abort()

    def echo(self) -> int:
        """Ask for an echo; give its status."""
        self._message_id += 1
        request = command_set.c_echo_request(self._message_id)
        patience = self._destination.answer_timeout_seconds
        self._wire.send(self.contexts[ECHO_PAIR].command(request), patience)
        return self._answer(command_set.C_ECHO_RSP).status

    def store(
        self,
        context: Context,
        sop_instance_uid: str,
        data_set: DataSet,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Send an open data set as one instance; give the answer.

        `meanwhile` is called once while the peer works at its answer.
        AssociationFailed when the association broke; OSError when the file could not
        be read, and then the association is of no more use.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        request = context.requests.encode(self._message_id, sop_instance_uid)
        pieces = context.command(request)
        for window, is_last in data_set.windows():
            pieces += context.data(window, is_last=is_last)
            self._send_message(pieces)
            if not is_last and self._wire.has_ended():
                break
            pieces = []
        meanwhile()
        return self._answer(command_set.C_STORE_RSP)

    def release(self) -> None:
        """End in good order; a peer that does not answer is left all the same."""
        with contextlib.suppress(AssociationFailed):
            self._wire.send([pdu.release_request()], _RELEASE_SECONDS)
            self._wire.read_pdu(_RELEASE_SECONDS)
        self._wire.close()

    def abort(self) -> None:
        """End at once."""
        with contextlib.suppress(AssociationFailed):
            self._wire.send([pdu.abort(pdu.BY_USER)], 0.1)
        self._wire.close()

    def _send_message(self, pieces: Sequence[Piece]) -> None:
        try:
            self._wire.send(pieces, self._destination.answer_timeout_seconds)
        except AssociationFailed:
            # A peer that aborts and closes at once breaks our sending before we have
            # read why.
            if self._wire.has_ended():
                self._answer(command_set.C_STORE_RSP)
            raise

    def _answer(self, field: int) -> Answer:
        command = bytearray()
        while True:
            kind, body = self._wire.read_pdu(self._destination.answer_timeout_seconds)
            if kind != pdu.P_DATA_TF:
                raise negotiation.unexpected(self._wire.peer, kind, body)
            try:
                if not _gather(body, command):
                    continue
                answer = Answer(bytes(command))
                if (answer.field, answer.message_id) != (field, self._message_id):
                    raise ValueError("it answers something else")
            except ValueError as error:
                raise AssociationFailed(
                    f"{self._wire.peer} gave an answer that cannot be read: {error}.",
                    remedy="read that node's log, and tell its maker",
                ) from error
            return answer


def open_association(
    destination: Destination,
    pairs: Sequence[Pair],
    settings: Settings,
    must_end: Callable[[], bool],
    *,
    may_be_self: bool = False,
) -> Association:
    """Connect and negotiate one context for each pair, at most 128.

    AssociationFailed says what the peer did, and whether that is for good.
    """
    with contextlib.ExitStack() as unless_accepted:
        connection = open_wire(destination, settings, must_end, may_be_self=may_be_self)
        unless_accepted.callback(connection.close)
        assoc = Association(connection, destination, pairs)
        unless_accepted.pop_all()
    return assoc


def open_wire(
    destination: Destination,
    settings: Settings,
    must_end: Callable[[], bool],
    *,
    may_be_self: bool = False,
) -> Wire:
    """Resolve the host once, refuse what leads back to this node, and connect."""
    addresses = own_node.addresses_of(destination.host)
    if not addresses:
        raise AssociationFailed(
            f"{destination} could not be reached: the name {destination.host} is not known.",
            remedy="write the host's address in routing.yaml, or ask who keeps the name server",
        )
    for address in addresses:
        if why := own_node.why_never(address, destination.port, settings, may_be_self=may_be_self):
            raise AssociationFailed(
                f"{destination} is never sent to: it {why}.",
                remedy=f"correct the host or port of {destination.name} in routing.yaml",
                is_permanent=True,
            )
    patience = destination.association_timeout_seconds
    return wire.connect(addresses, destination.port, str(destination), patience, must_end)


def _gather(body: bytes, command: bytearray) -> bool:
    """Add the command fragments of a P-DATA-TF to `command`; True after the last one."""
    at = 0
    is_last = False
    while at < len(body):
        length, _, header = struct.unpack_from(">LBB", body.ljust(at + 6, b"\0"), at)
        if length < 2 or at + 4 + length > len(body) or not header & pdu.IS_COMMAND:
            raise ValueError("its fragments are wrong")
        command += body[at + 6 : at + 4 + length]
        is_last = bool(header & pdu.IS_LAST)
        at += 4 + length
    if len(command) > WE_RECEIVE_BYTES:
        raise ValueError("it is too long")
    return is_last
