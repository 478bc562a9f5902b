"""An association that this node requests: negotiated, used, released or aborted.

Negotiation passes through pynetdicom's codecs of PDUs; messages are written here,
from the file, a PDU at a time.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import BinaryIO

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from appliance.dicom import names, statuses
from appliance.errors import AssociationFailed
from appliance.router import command_set, own_node, wire
from appliance.router.command_set import Answer
from appliance.router.rules import LARGEST_PDU_BYTES, Destination
from appliance.router.wire import Wire
from appliance.settings import Settings

Pair = tuple[str, str]  # SOP class and transfer syntax

ECHO_PAIR: Pair = (command_set.VERIFICATION, "1.2.840.10008.1.2")
MOST_CONTEXTS = 128
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_AC, _RJ, _P_DATA, _RELEASE_RQ, _RELEASE_RP = 2, 3, 4, 5, 6
_WE_RECEIVE_BYTES = 16384
_RELEASE_SECONDS = 5.0
# What pynetdicom's codecs raise for bytes that are no A-ASSOCIATE-AC.
_CANNOT_DECODE = (
    ValueError, TypeError, LookupError, AttributeError, AssertionError, NotImplementedError,
    RecursionError, struct.error,
)  # fmt: skip
_ABORT_REASONS = {
    1: "unrecognised PDU",
    2: "unexpected PDU",
    4: "unrecognised PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter",
}
_CONTEXT_REFUSED = {
    1: "refused by its user",
    2: "refused without a reason",
    3: "it does not take this SOP class",
    4: "it does not take this transfer syntax",
}


class Association:
    """An open association; `contexts` are the accepted pairs, `refused` the others with why."""

    def __init__(self, connection: Wire, destination: Destination, pairs: Sequence[Pair]) -> None:
        self.contexts: dict[Pair, int] = {}
        self.refused: dict[Pair, str] = {}
        self._wire = connection
        self._destination = destination
        self._message_id = 0
        self._max_pdu = destination.max_pdu_bytes
        self._negotiate(pairs)

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
        context = self.contexts[ECHO_PAIR]
        self._message_id += 1
        self._wire.send(
            b"".join(self._pdus(context, command_set.c_echo_request(self._message_id))),
            self._destination.answer_timeout_seconds,
        )
        return self._answer(command_set.C_ECHO_RSP).status

    def store(self, pair: Pair, sop_instance_uid: str, data_set: BinaryIO) -> Answer:
        """Send the rest of an open file as one instance; give the answer.

        AssociationFailed when the association broke; OSError when the file could not
        be read, and then the association is of no more use.
        """
        patience = self._destination.answer_timeout_seconds
        context = self.contexts[pair]
        self._message_id = self._message_id % 0xFFFF + 1
        request = command_set.c_store_request(self._message_id, pair[0], sop_instance_uid)
        first = bytearray().join(self._pdus(context, request))
        for pdu in _data_pdus(context, data_set, self._max_pdu):
            if self._wire.has_ended():
                break
            self._send_message(first + pdu if first else pdu, patience)
            first = bytearray()
        return self._answer(command_set.C_STORE_RSP)

    def release(self) -> None:
        """End in good order; a peer that does not answer is left all the same."""
        with contextlib.suppress(AssociationFailed):
            self._wire.send(struct.pack(">BBLL", _RELEASE_RQ, 0, 4, 0), _RELEASE_SECONDS)
            self._wire.read_pdu(_RELEASE_SECONDS)
        self._wire.close()

    def abort(self) -> None:
        """End at once."""
        with contextlib.suppress(AssociationFailed):
            self._wire.send(struct.pack(">BBLBBBB", wire.ABORT, 0, 4, 0, 0, 0, 0), 0.1)
        self._wire.close()

    def _negotiate(self, pairs: Sequence[Pair]) -> None:
        patience = self._destination.association_timeout_seconds
        self._wire.send(_request(self._destination, pairs), patience)
        kind, body = self._wire.read_pdu(patience)
        if kind == _RJ and len(body) >= 4:
            raise _rejected(self._wire.peer, body[1], body[2], body[3])
        if kind != _AC:
            raise self._unexpected(kind, body)
        self._accept(pairs, _decoded(self._wire.peer, kind, body))

    def _accept(self, pairs: Sequence[Pair], accept: A_ASSOCIATE) -> None:
        longest = accept.maximum_length_received or LARGEST_PDU_BYTES
        self._max_pdu = max(min(longest, self._max_pdu), 64)
        listed = accept.presentation_context_definition_results_list
        results = {one.context_id: one for one in listed}
        for number, pair in enumerate(pairs):
            result = results.get(2 * number + 1)
            if result and result.result == 0 and result.transfer_syntax == [pair[1]]:
                self.contexts[pair] = 2 * number + 1
            else:
                reason = result.result if result and result.result else 2
                self.refused[pair] = _CONTEXT_REFUSED.get(reason, f"refused with reason {reason}")

    def _send_message(self, pdu: bytes | bytearray, patience_seconds: float) -> None:
        try:
            self._wire.send(pdu, patience_seconds)
        except AssociationFailed:
            # A peer that aborts and closes at once breaks our sending before we have
            # read why.
            if self._wire.has_ended():
                self._answer(command_set.C_STORE_RSP)
            raise

    def _pdus(self, context: int, command: bytes) -> Iterable[bytes]:
        room = self._max_pdu - 6
        for at in range(0, len(command), room):
            is_last = at + room >= len(command)
            yield _p_data(context, 0x03 if is_last else 0x01, command[at : at + room])

    def _answer(self, field: int) -> Answer:
        command = bytearray()
        while True:
            kind, body = self._wire.read_pdu(self._destination.answer_timeout_seconds)
            if kind != _P_DATA:
                raise self._unexpected(kind, body)
            try:
                is_last = _gather(body, command)
                if not is_last:
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

    def _unexpected(self, kind: int, body: bytes) -> AssociationFailed:
        if kind == wire.ABORT and len(body) >= 4:
            return AssociationFailed(
                f"{self._wire.peer} aborted the association{_abort_words(body[2], body[3])}.",
                remedy="read that node's log",
            )
        return AssociationFailed(
            f"{self._wire.peer} ended the association before it had answered (PDU type {kind}).",
            remedy="read that node's log",
        )


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


def _request(destination: Destination, pairs: Sequence[Pair]) -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = _APPLICATION_CONTEXT
    request.called_ae_title = destination.ae_title
    request.calling_ae_title = destination.own_ae_title
    contexts = [build_context(abstract, transfer) for abstract, transfer in pairs]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    request.presentation_context_definition_list = contexts
    length = MaximumLengthNotification()
    length.maximum_length_received = _WE_RECEIVE_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = names.IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = names.IMPLEMENTATION_VERSION
    request.user_information = [length, implementation, version]
    return A_ASSOCIATE_RQ(request).encode()


def _decoded(peer: str, kind: int, body: bytes) -> A_ASSOCIATE:
    accept = A_ASSOCIATE_AC()
    try:
        accept.decode(struct.pack(">BBL", kind, 0, len(body)) + body)
        made = accept.to_primitive()
        if not made.presentation_context_definition_results_list:
            raise ValueError("it names no presentation context")
        return made
    except _CANNOT_DECODE as error:
        raise AssociationFailed(
            f"{peer} accepted the association in a way that cannot be read.",
            remedy="read that node's log, and tell its maker",
        ) from error


def _rejected(peer: str, result: int, source: int, reason: int) -> AssociationFailed:
    words = statuses.reject_reason(result, source, reason)
    is_permanent = result == 1
    return AssociationFailed(
        f"{peer} refused the association: {words}.",
        remedy="enter this node there (AE title, address), and check the AE titles in routing.yaml"
        if is_permanent
        else "nothing: it is tried again",
        is_permanent=is_permanent,
    )


def _abort_words(source: int, reason: int) -> str:
    """Say who aborted and why (PS3.8 9.3.8)."""
    if source != 2:
        return ""
    return f": {_ABORT_REASONS.get(reason, 'its protocol layer gave no reason')}"


def _p_data(context: int, header: int, fragment: bytes) -> bytes:
    head = struct.pack(">BBLLBB", _P_DATA, 0, len(fragment) + 6, len(fragment) + 2, context, header)
    return head + fragment


def _data_pdus(context: int, data_set: BinaryIO, max_pdu: int) -> Iterable[bytes]:
    room = max_pdu - 6
    fragment = data_set.read(room)
    while True:
        following = data_set.read(room) if len(fragment) == room else b""
        yield _p_data(context, 0x00 if following else 0x02, fragment)
        if not following:
            return
        fragment = following


def _gather(body: bytes, command: bytearray) -> bool:
    """Add the command fragments of a P-DATA-TF to `command`; True after the last one."""
    at = 0
    is_last = False
    while at < len(body):
        length, _, header = struct.unpack_from(">LBB", body.ljust(at + 6, b"\0"), at)
        if length < 2 or at + 4 + length > len(body) or not header & 0x01:
            raise ValueError("its fragments are wrong")
        command += body[at + 6 : at + 4 + length]
        is_last = bool(header & 0x02)
        at += 4 + length
    if len(command) > _WE_RECEIVE_BYTES:
        raise ValueError("it is too long")
    return is_last
