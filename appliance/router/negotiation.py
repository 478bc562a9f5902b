"""What is proposed to another node, and what it accepts of that (PS3.8 7.1).

One presentation context for each pair of SOP class and transfer syntax, so that each is
accepted or refused by itself.  The PDUs pass through pynetdicom's codecs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from appliance.dicom import names, pdu, statuses
from appliance.errors import AssociationFailed
from appliance.router.rules import LARGEST_PDU_BYTES, Destination
from appliance.router.wire import Wire

Pair = tuple[str, str]  # SOP class and transfer syntax

MOST_CONTEXTS = 128
WE_RECEIVE_BYTES = 16384
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
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


@dataclass(frozen=True, slots=True)
class Accepted:
    """Numbers of the contexts that the peer accepted, why not the others, its longest PDU."""

    contexts: dict[Pair, int]
    refused: dict[Pair, str]
    max_pdu_bytes: int


def negotiate(connection: Wire, destination: Destination, pairs: Sequence[Pair]) -> Accepted:
    """Ask for an association; AssociationFailed says what the peer did instead of accepting."""
    patience = destination.association_timeout_seconds
    connection.send([_request(destination, pairs)], patience)
    kind, body = connection.read_pdu(patience)
    if kind == pdu.ASSOCIATE_RJ and len(body) >= 4:
        raise _rejected(connection.peer, body[1], body[2], body[3])
    if kind != pdu.ASSOCIATE_AC:
        raise unexpected(connection.peer, kind, body)
    return _accepted(destination, pairs, _decoded(connection.peer, kind, body))


def unexpected(peer: str, kind: int, body: bytes) -> AssociationFailed:
    """Say what a PDU that nobody waited for means: an abort (PS3.8 9.3.8), or another end."""
    if kind == pdu.ABORT and len(body) >= 4:
        return AssociationFailed(
            f"{peer} aborted the association{_abort_words(body[2], body[3])}.",
            remedy="read that node's log",
        )
    return AssociationFailed(
        f"{peer} ended the association before it had answered (PDU type {kind}).",
        remedy="read that node's log",
    )


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
    length.maximum_length_received = WE_RECEIVE_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = names.IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = names.IMPLEMENTATION_VERSION
    request.user_information = [length, implementation, version]
    return A_ASSOCIATE_RQ(request).encode()


def _accepted(destination: Destination, pairs: Sequence[Pair], accept: A_ASSOCIATE) -> Accepted:
    longest = accept.maximum_length_received or LARGEST_PDU_BYTES  # 0: any length (PS3.8 D.1)
    made = Accepted({}, {}, max(min(longest, destination.max_pdu_bytes), 64))
    listed = accept.presentation_context_definition_results_list
    results = {one.context_id: one for one in listed}
    for number, pair in enumerate(pairs):
        result = results.get(2 * number + 1)
        if result and result.result == 0 and result.transfer_syntax == [pair[1]]:
            made.contexts[pair] = 2 * number + 1
        else:
            reason = result.result if result and result.result else 2
            made.refused[pair] = _CONTEXT_REFUSED.get(reason, f"refused with reason {reason}")
    return made


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
    if source != 2:
        return ""
    return f": {_ABORT_REASONS.get(reason, 'its protocol layer gave no reason')}"
