"""What one receiving process does at each event of an association of the stock path.

pynetdicom calls these handlers from the association's threads; each does one step
and leaves the decision to `judge` and the work to `intake`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pynetdicom import evt

from appliance import logs
from appliance.dicom import pdu
from appliance.dicom.command_set import VERIFICATION
from appliance.index.states import Ending
from appliance.receiver.admission import Accept, Reject, Request
from appliance.receiver.associations import Associations, OpenAssociation
from appliance.receiver.judge import Judge, plain, sender_of
from appliance.receiver.storing import Storing
from appliance.settings import Receiver

_SLACK_BYTES = 1 << 20


class Acceptor:
    """The handlers of one process, and what they share."""

    def __init__(
        self,
        judge: Judge,
        associations: Associations,
        storing: Storing,
        rules: Callable[[], Receiver],
    ) -> None:
        self._judge = judge
        self._associations = associations
        self._storing = storing
        self._rules = rules

    def handlers(self) -> list[tuple[Any, Callable[..., Any]]]:
        """List what pynetdicom is to call."""
        return [
            (evt.EVT_REQUESTED, self.requested),
            (evt.EVT_C_STORE, self._storing.handle),
            (evt.EVT_DATA_RECV, self.received_bytes),
            (evt.EVT_RELEASED, self.released),
            (evt.EVT_ABORTED, self.aborted),
        ]

    def requested(self, event: Any) -> None:
        """Admit an association or reject it with the standard's reason."""
        request = _request_of(event.assoc)
        verdict = self._judge.verdict(request)
        if isinstance(verdict, Reject):
            self._judge.refuse(request, verdict)
            event.assoc.acse.send_reject(verdict.result, verdict.source, verdict.reason)
            # Returns once the rejection was sent and the connection is closed.
            event.assoc.kill()
            return
        self._associations.open(_opened(event.assoc, verdict, request), event.assoc)

    def received_bytes(self, event: Any) -> None:
        """Count what comes in, and cut off an instance that never ends."""
        received: bytes = event.data
        one = self._associations.find(event.assoc)
        if one is None:
            return
        one.note_bytes(len(received) if received[0] == pdu.P_DATA_TF else 0)
        one.is_aborted_by_peer = one.is_aborted_by_peer or received[0] == pdu.ABORT
        most = self._rules().max_instance_mb * 1_000_000
        if one.message_bytes > most + _SLACK_BYTES:
            logs.get().warning("association aborted", association=one.id, why="instance too long")
            one.abort()

    def released(self, event: Any) -> None:
        """Close an association that its requestor released."""
        self._associations.close(event.assoc, Ending.RELEASED)

    def aborted(self, event: Any) -> None:
        """Close an association that one side aborted, or whose connection was lost."""
        one = self._associations.find(event.assoc)
        is_said = one is not None and (one.is_aborted_by_peer or one.is_aborted_by_us)
        self._associations.close(event.assoc, Ending.ABORTED if is_said else Ending.LOST)

    def end_slow(self) -> None:
        """Abort what sends more slowly than anybody; the direct path sees to its own."""
        rules, now = self._rules(), time.monotonic()
        for one in self._associations.all():
            seconds = now - one.message_began_at
            if one.is_storing or not one.message_bytes or seconds < rules.pdu_timeout_seconds:
                continue
            if one.message_bytes < rules.least_bytes_a_second * seconds:
                logs.get().warning(
                    "association aborted",
                    association=one.id,
                    why="it sends too slowly: receiver.least_bytes_a_second",
                )
                one.abort()


def _request_of(assoc: Any) -> Request:
    asked = assoc.requestor.primitive
    proposed = {str(c.abstract_syntax) for c in asked.presentation_context_definition_list}
    return Request(
        called_ae_title=asked.called_ae_title,
        calling_ae_title=asked.calling_ae_title,
        address=plain(assoc.requestor.address_info.address),
        is_echo_only=proposed <= {VERIFICATION},
    )


def _opened(assoc: Any, accepted: Accept, request: Request) -> OpenAssociation:
    local = assoc.acceptor.address_info
    port = assoc.requestor.address_info.port
    return OpenAssociation(
        sender=sender_of(accepted, request, port, local.address, local.port),
        level=accepted.level,
        is_recorded=not request.is_echo_only,
        end=lambda: assoc.abort(block=False),
        is_alive=assoc.is_alive,
    )
