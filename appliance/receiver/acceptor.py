"""What one receiving process does at each event of an association.

pynetdicom calls these handlers from the association's threads; each does one step
and leaves the decision to `admission` and the work to `intake`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pynetdicom import evt

from appliance import ids, logs
from appliance.dicom import part10
from appliance.disk.layout import Layout
from appliance.errors import IndexUnavailable
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.intake.take import Intake, Sender
from appliance.receiver import listener, load
from appliance.receiver.admission import Accept, Reject, Request, decide
from appliance.receiver.associations import Associations, OpenAssociation
from appliance.receiver.pace import Pace
from appliance.receiver.pulse import Watch
from appliance.receiver.refusals import Refusals
from appliance.receiver.storing import Storing
from appliance.settings import Settings
from appliance.streams.catalog import Streams, StreamWatcher

_VERIFICATION = "1.2.840.10008.1.1"
_P_DATA, _ABORT = 0x04, 0x07
_SLACK_BYTES = 1 << 20
_UNREADABLE = {
    "calling": Reject(1, 1, 3, "Its own AE title is empty, or has bytes that are not ASCII."),
    "called": Reject(1, 1, 7, "It calls an AE title that is empty, or has bytes not of ASCII."),
}
_FAILED = Reject(2, 3, 1, "The node could not judge the request; its log says why.")


class Acceptor:
    """The handlers of one process, and what they share."""

    def __init__(self, db: Database, settings: Settings, watch: Watch) -> None:
        self.settings = settings
        self._watch = watch
        self._db = db
        self._layout = Layout(settings.data_root)
        self._streams = StreamWatcher.of(settings)
        self._refusals = Refusals(db)
        self._pace = Pace()
        own_ae_title = settings.node.ae_title.strip(" ")
        self._intake = Intake(db, self._layout, own_ae_title, lambda: self.settings.receiver)
        self.associations = Associations(db, self._layout)
        self._storing = Storing(
            self._intake, self.associations, self._layout, lambda: self.settings, watch
        )

    def handlers(self) -> list[tuple[Any, Callable[..., Any]]]:
        """List what pynetdicom is to call."""
        return [
            (evt.EVT_REQUESTED, self.requested),
            (evt.EVT_C_STORE, self._storing.handle),
            (evt.EVT_DATA_RECV, self.received_bytes),
            (evt.EVT_RELEASED, self.released),
            (evt.EVT_ABORTED, self.aborted),
        ]

    def close(self) -> None:
        """Let this process's folder in incoming/ go."""
        self._intake.close()

    def requested(self, event: Any) -> None:
        """Admit an association or reject it with the standard's reason."""
        request = Request("?", "?", _plain(event.assoc.requestor.address_info.address))
        try:
            request = _request_of(event.assoc)
            with self._watch.step():
                verdict = self._overrun(request) or self._judge(event.assoc, request)
        except Exception:  # noqa: BLE001
            # pynetdicom accepts what a handler failed to judge.
            logs.get().exception("association not judged")
            verdict = _FAILED
        if isinstance(verdict, Reject):
            self._note(request, verdict)
            event.assoc.acse.send_reject(verdict.result, verdict.source, verdict.reason)
            # Returns once the rejection was sent and the connection is closed.
            event.assoc.kill()

    def received_bytes(self, event: Any) -> None:
        """Count what comes in, and cut off an instance that never ends."""
        pdu: bytes = event.data
        if which := listener.unreadable_ae_title(pdu):
            self._reject_unreadable(event.assoc, _UNREADABLE[which])
            return
        one = self.associations.find(event.assoc)
        if one is None:
            return
        one.note_bytes(len(pdu) if pdu[0] == _P_DATA else 0)
        one.is_aborted_by_peer = one.is_aborted_by_peer or pdu[0] == _ABORT
        most = self.settings.receiver.max_instance_mb * 1_000_000
        if one.message_bytes > most + _SLACK_BYTES:
            logs.get().warning("association aborted", association=one.id, why="instance too long")
            self.abort(one)

    def released(self, event: Any) -> None:
        """Close an association that its requestor released."""
        with self._watch.step():
            self.associations.close(event.assoc, Ending.RELEASED, datetime.now(UTC))

    def aborted(self, event: Any) -> None:
        """Close an association that one side aborted, or whose connection was lost."""
        one = self.associations.find(event.assoc)
        is_said = one is not None and (one.is_aborted_by_peer or one.is_aborted_by_us)
        ending = Ending.ABORTED if is_said else Ending.LOST
        with self._watch.step():
            self.associations.close(event.assoc, ending, datetime.now(UTC))

    def abort(self, one: OpenAssociation) -> None:
        """Abort an association from our side."""
        one.is_aborted_by_us = True
        one.assoc.abort(block=False)

    def look_at_streams(self) -> Streams:
        """See what stands in the streams folder now.

        Also asked between requests, so that an edit that has not settled is never the first
        thing that this process sees of a stream.
        """
        return self._streams.current()

    def _overrun(self, request: Request) -> Reject | None:
        # Nobody guesses the node's own AE title, and the heartbeat calls it.
        is_own = request.called_ae_title.strip(" ") == self.settings.node.ae_title.strip(" ")
        return None if is_own else self._pace.overrun(request.address)

    def _judge(self, assoc: Any, request: Request) -> Accept | Reject:
        now = datetime.now(UTC)
        measured = load.measure(self._db, self._layout, self.settings.receiver)
        verdict = decide(request, self.look_at_streams(), self.settings, measured)
        if isinstance(verdict, Reject):
            return verdict
        one = OpenAssociation(
            assoc=assoc,
            sender=_sender_of(assoc, verdict, request),
            level=verdict.level,
            is_recorded=not request.is_echo_only,
        )
        try:
            self.associations.open(one, now)
        except IndexUnavailable as error:
            return Reject(2, 3, 1, f"The index cannot be used: {error}")
        if one.is_recorded:
            logs.get().info(
                "association accepted",
                association=one.id,
                called=verdict.called_ae_title,
                calling=verdict.calling_ae_title,
                address=request.address,
            )
        return verdict

    def _reject_unreadable(self, assoc: Any, verdict: Reject) -> None:
        self._note(Request("?", "?", _plain(assoc.requestor.address_info.address)), verdict)
        assoc.dul.socket.send(listener.reject_pdu(verdict.result, verdict.source, verdict.reason))

    def _note(self, request: Request, verdict: Reject) -> None:
        """Tell of a refusal before it is answered; one for good may have to wait."""
        self._refusals.note(request, verdict, datetime.now(UTC))
        if verdict.result == 1:
            rules = self.settings.receiver
            self._pace.keep(request.address, 0 if rules.behind_nat else rules.refusals_a_minute)


def _request_of(assoc: Any) -> Request:
    asked = assoc.requestor.primitive
    proposed = {str(c.abstract_syntax) for c in asked.presentation_context_definition_list}
    return Request(
        called_ae_title=asked.called_ae_title,
        calling_ae_title=asked.calling_ae_title,
        address=_plain(assoc.requestor.address_info.address),
        is_echo_only=proposed <= {_VERIFICATION},
    )


def _sender_of(assoc: Any, verdict: Accept, request: Request) -> Sender:
    local = assoc.acceptor.address_info
    return Sender(
        called_ae_title=verdict.called_ae_title,
        calling_ae_title=verdict.calling_ae_title,
        address=request.address,
        association_id=ids.new_id(),
        port=assoc.requestor.address_info.port,
        local=part10.address_of(_plain(local.address), local.port),
    )


def _plain(address: str) -> str:
    """Write an IPv4 address that came over an IPv6 socket as IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address
