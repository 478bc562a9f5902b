"""Refused associations: a log line and an event, but not one per try of a peer that hammers.

Of one address the first refusals of a minute are told each by its AE titles, once; then it
is said that there are many, and no more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime

from appliance import logs
from appliance.dicom.statuses import reject_reason
from appliance.errors import IndexUnavailable
from appliance.index import events
from appliance.index.database import Database
from appliance.receiver.admission import Reject, Request

_QUIET_SECONDS = 60.0
_MOST_IN_A_MINUTE = 120
_MOST_OF_AN_ADDRESS = 10
_AGAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Told:
    """An event that is to be written."""

    sentence: str
    who: str
    request: Request
    at: datetime


class Refusals:
    """What was refused in the last minute; asked by several threads, which harms nothing."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._noted: dict[tuple[object, ...], float] = {}
        self._unwritten: deque[_Told] = deque(maxlen=_MOST_IN_A_MINUTE)
        self._next_try = 0.0
        self._writing = threading.Lock()

    def note(self, request: Request, reject: Reject, now: datetime) -> None:
        """Log a refusal and append its event, unless this peer was told so a moment ago.

        What the index did not take (it was away, or no descriptor was left) it gets with a
        later refusal.
        """
        if self._unwritten:
            self._write()
        key = (request.address, request.calling_ae_title, request.called_ae_title, reject)
        is_many = self._count(request.address) >= _MOST_OF_AN_ADDRESS
        if not self._is_due((request.address, "many") if is_many else key):
            return
        words = reject_reason(reject.result, reject.source, reject.reason)
        logs.get().warning(
            "association refused",
            words=words,
            why=reject.sentence,
            many=is_many,
            called=request.called_ae_title,
            calling=request.calling_ae_title,
            address=request.address,
        )
        who = request.calling_ae_title if request.calling_ae_title.isprintable() else "?"
        sentence = f"{who} ({request.address}) was refused: {words}. {reject.sentence}"
        if is_many:
            sentence += (
                f" {request.address} was refused often within a minute, with several AE titles:"
                " somebody may be guessing them. Its next refusals are not told one by one."
            )
        self._unwritten.append(_Told(sentence, who, request, now))
        self._write()

    def _write(self) -> None:
        """Write what is not written yet; when many are refused at once, one writes for all."""
        with self._writing:
            told = list(self._unwritten)
            if not told or time.monotonic() < self._next_try:
                return
            try:
                with self._db.write() as connection:
                    for one in told:
                        events.append(
                            connection,
                            "association refused",
                            one.sentence,
                            one.at,
                            who=one.who,
                            called=one.request.called_ae_title,
                            calling=one.request.calling_ae_title,
                            address=one.request.address,
                        )
            except IndexUnavailable as error:
                self._next_try = time.monotonic() + _AGAIN_SECONDS
                logs.get().warning("event not written", reason=str(error))
                return
            for one in told:
                if self._unwritten[0] is one:  # not one that a later one has pushed out
                    self._unwritten.popleft()

    def _count(self, address: str) -> int:
        since = time.monotonic() - _QUIET_SECONDS
        return sum(k[0] == address and at > since for k, at in list(self._noted.items()))

    def _is_due(self, key: tuple[object, ...]) -> bool:
        now = time.monotonic()
        self._noted = {k: at for k, at in list(self._noted.items()) if now - at < _QUIET_SECONDS}
        if key in self._noted or len(self._noted) >= _MOST_IN_A_MINUTE:
            return False
        self._noted[key] = now
        return True
