"""Admission as both paths ask for it: the decision with what it is made from, and its refusals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from appliance import ids, logs
from appliance.dicom import part10
from appliance.disk.layout import Layout
from appliance.index.database import Database
from appliance.intake.take import Sender
from appliance.receiver import load
from appliance.receiver.admission import Accept, Load, Reject, Request, decide
from appliance.receiver.pace import Pace
from appliance.receiver.pulse import Watch
from appliance.receiver.refusals import Refusals
from appliance.receiver.shared_counts import Seat
from appliance.settings import Settings
from appliance.streams.catalog import Streams, StreamWatcher

UNREADABLE = {
    "calling": Reject(1, 1, 3, "Its own AE title is empty, or has bytes that are not ASCII."),
    "called": Reject(1, 1, 7, "It calls an AE title that is empty, or has bytes not of ASCII."),
}
_ROOM_SECONDS = 1.0
_FAILED = Reject(2, 3, 1, "The node could not judge the request; its log says why.")


class Judge:
    """One process's judge; `settings` is replaced when they are read again."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        seat: Seat,
        watch: Watch,
        seconds_behind: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._db = db
        self._layout = Layout(settings.data_root)
        self._seat = seat
        self._counting = threading.Lock()
        self._watch = watch
        self._seconds_behind = seconds_behind
        # Ends an association that is of no use, if there is one.
        self.makes_room: Callable[[], bool] = lambda: False
        self._streams = StreamWatcher.of(settings)
        self._refusals = Refusals(db)
        self._pace = Pace()
        self._load = load.Measured(self._look)

    def verdict(self, request: Request) -> Accept | Reject:
        """Accept an association or say why not; never raises.

        One that is accepted is counted as open, unless it is for Verification only: its end
        (`Associations.close`), or `withdraw`, takes it back.
        """
        try:
            with self._watch.step():
                return self._overrun(request) or self._decide(request)
        except Exception:  # noqa: BLE001
            logs.get().exception("association not judged")
            return _FAILED

    def refuse(self, request: Request, verdict: Reject) -> None:
        """Tell of a refusal before it is answered; one for good may have to wait."""
        self._refusals.note(request, verdict, datetime.now(UTC))
        if verdict.result == 1:
            rules = self.settings.receiver
            self._pace.keep(request.address, 0 if rules.behind_nat else rules.refusals_a_minute)

    def withdraw(self, request: Request) -> None:
        """Count no more what was accepted and never came to be."""
        if not request.is_echo_only:
            self._seat.count_association(-1)

    def look_at_streams(self) -> Streams:
        """See what stands in the streams folder now.

        Also asked between requests, so that an edit that has not settled is never the first
        thing that this process sees of a stream.
        """
        return self._streams.current()

    def forget(self) -> None:
        """Look anew at the load: the settings were read again."""
        self._load.forget()

    def _overrun(self, request: Request) -> Reject | None:
        # Nobody guesses the node's own AE title, and the heartbeat calls it.
        is_own = request.called_ae_title.strip(" ") == self.settings.node.ae_title.strip(" ")
        return None if is_own else self._pace.overrun(request.address)

    def _decide(self, request: Request) -> Accept | Reject:
        verdict = self._decide_now(request)
        if _lacks_room(verdict) and self.makes_room():
            until = time.monotonic() + _ROOM_SECONDS
            while _lacks_room(verdict) and time.monotonic() < until:
                time.sleep(0.01)
                verdict = self._decide_now(request)
        return verdict

    def _decide_now(self, request: Request) -> Accept | Reject:
        seen, streams = self._load.now(), self.look_at_streams()
        # Many may ask at once: each is counted before the next one is judged.
        with self._counting:
            seen = replace(seen, open_associations=self._seat.table.open_associations())
            verdict = decide(request, streams, self.settings, seen)
            if isinstance(verdict, Accept) and not request.is_echo_only:
                self._seat.count_association(1)
        return verdict

    def _look(self) -> Load:
        rules = self.settings.receiver
        return load.measure(self._db, self._layout, rules, self._seconds_behind())


def sender_of(
    accepted: Accept, request: Request, port: int, local_address: str, local_port: int
) -> Sender:
    """Say who sends, over the association that was accepted."""
    return Sender(
        called_ae_title=accepted.called_ae_title,
        calling_ae_title=accepted.calling_ae_title,
        address=request.address,
        association_id=ids.new_id(),
        port=port,
        local=part10.address_of(plain(local_address), local_port),
    )


def _lacks_room(verdict: Accept | Reject) -> bool:
    return isinstance(verdict, Reject) and (verdict.source, verdict.reason) == (3, 2)


def plain(address: str) -> str:
    """Write an IPv4 address that came over an IPv6 socket as IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address
