"""What the direct path answers to an A-ASSOCIATE-RQ, with pynetdicom's codecs.

Modalities send the same bytes each time, and the same bytes have the same answer until the
settings change: it is remembered.  Whether an association is admitted is none of this.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_unrestricted

from appliance.dicom.command_set import VERIFICATION
from appliance.dicom.names import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

_MOST_REMEMBERED = 256
_LONGEST_REMEMBERED = 32 * 1024
_ACCEPTED = 0x00


@dataclass(frozen=True, slots=True)
class Syntaxes:
    """What an accepted presentation context is for."""

    abstract_syntax_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Negotiated:
    """An answer: the bytes of the A-ASSOCIATE-AC, and the contexts that it accepts, by ID."""

    called_ae_title: str
    calling_ae_title: str
    accepted: bytes
    contexts: Mapping[int, Syntaxes]
    is_echo_only: bool


class Negotiator:
    """The answers of one process; `max_pdu_bytes` is what it tells that it takes."""

    def __init__(self, max_pdu_bytes: int) -> None:
        self._max_pdu_bytes = max_pdu_bytes
        self._verification = [build_context(VERIFICATION)]
        self._known: dict[bytes, Negotiated] = {}
        self._lock = threading.Lock()

    def knows(self, request: bytes) -> bool:
        """Say whether these very bytes were answered before."""
        return request in self._known

    def answer(self, request: bytes) -> Negotiated:
        """Give the answer to a well-formed request of the direct path.

        ValueError and its kin where pynetdicom finds more fault with it than `request` did.
        """
        known = self._known.get(request)
        if known is not None:
            return known
        made = self._negotiate(request)
        if len(request) <= _LONGEST_REMEMBERED:
            with self._lock:
                if len(self._known) >= _MOST_REMEMBERED:
                    del self._known[next(iter(self._known))]
                self._known[request] = made
        return made

    def forget(self) -> None:
        """Forget the answers: the settings were read again."""
        with self._lock:
            self._known = {}

    def _negotiate(self, request: bytes) -> Negotiated:
        received = A_ASSOCIATE_RQ()
        received.decode(request)
        asked = received.to_primitive()
        proposed: list[PresentationContext] = asked.presentation_context_definition_list
        results, _ = negotiate_unrestricted(proposed, self._verification, {})
        answer = A_ASSOCIATE()
        answer.application_context_name = asked.application_context_name
        answer.called_ae_title = asked.called_ae_title
        answer.calling_ae_title = asked.calling_ae_title
        answer.result = _ACCEPTED
        answer.result_source = 0x01
        answer.presentation_context_definition_results_list = results
        answer.user_information = self._user_information()
        sent = A_ASSOCIATE_AC()
        sent.from_primitive(answer)
        return Negotiated(
            called_ae_title=asked.called_ae_title,
            calling_ae_title=asked.calling_ae_title,
            accepted=sent.encode(),
            contexts={
                one.context_id: Syntaxes(str(one.abstract_syntax), str(one.transfer_syntax[0]))
                for one in results
                if one.result == _ACCEPTED and one.context_id is not None
            },
            is_echo_only={str(one.abstract_syntax) for one in proposed} <= {VERIFICATION},
        )

    def _user_information(self) -> list[Any]:
        longest = MaximumLengthNotification()
        longest.maximum_length_received = self._max_pdu_bytes
        implementation = ImplementationClassUIDNotification()
        implementation.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        version = ImplementationVersionNameNotification()
        version.implementation_version_name = IMPLEMENTATION_VERSION
        return [longest, implementation, version]
