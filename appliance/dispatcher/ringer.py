"""Ringing in a thread of its own, so that a gearmand that hangs delays no study.

It rings at once what it is told of, everything that is queued each
`ring_again_seconds`, and everything as soon as gearmand answers after an outage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from appliance import logs
from appliance.errors import IndexUnavailable, QueueUnavailable
from appliance.index import job_list
from appliance.index.database import Database
from appliance.index.job_list import Queued
from appliance.queue.depth import look
from appliance.queue.rings import Ring, Rings
from appliance.settings import Queue

_OUTAGE_PAUSE_SECONDS = 1.0
_LOOK_PAUSE_SECONDS = 0.5
_ASK_SECONDS = 2.0


class Ringer(threading.Thread):
    """Rings the jobs that are queued.  `settings` is asked each time: they may be reloaded."""

    def __init__(
        self, db: Database, settings: Callable[[], Queue], on_stumble: Callable[[], None]
    ) -> None:
        super().__init__(name="ringer", daemon=True)
        self._db = db
        self._settings = settings
        self._on_stumble = on_stumble
        self._rings = Rings(settings().servers)
        self._wake = threading.Condition()
        self._asked: list[Ring] = []
        self._wants_look = False
        self._looked_at = 0.0
        self._is_stopping = False
        self._rung: dict[int, int] = {}  # job id -> the attempt before which it was rung
        self._all_at = 0.0  # monotonic: when everything is rung again
        self._due_at = float("inf")  # monotonic: when the next deferred job falls due
        self._is_down = False

    @property
    def outage(self) -> str:
        """Say that gearmand does not answer; "" while it does."""
        if not self._is_down:
            return ""
        seconds = self._settings().ring_again_seconds
        return f"gearmand does not answer: workers look by themselves every {seconds:g} s."

    def ring(self, ring: Ring) -> None:
        """Ring for a job at once."""
        with self._wake:
            self._asked.append(ring)
            self._wake.notify()

    def look(self) -> None:
        """Ring soon for what was queued by others since the last look."""
        with self._wake:
            self._wants_look = True
            self._wake.notify()

    def stop(self) -> None:
        """End the thread; what it has not rung is rung at the next start."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()

    def run(self) -> None:
        """Ring until told to stop."""
        try:
            while not self._is_stopping:
                self._ring_once()
        # The boundary of this thread: without it the process is of no use, and starts again.
        except Exception:  # noqa: BLE001
            logs.get().exception("ringing stumbled")
            self._on_stumble()
        self._rings.close()

    def _ring_once(self) -> None:
        asked = self._next()
        try:
            self._step(asked)
        except QueueUnavailable as error:
            self._note_outage(error)
        except IndexUnavailable as error:
            logs.get().warning("the index is away, ringing waits", said=str(error))
            self._all_at = 0.0
            time.sleep(_OUTAGE_PAUSE_SECONDS)

    def _next(self) -> list[Ring]:
        """Wait for something to do; give what was asked for."""
        with self._wake:
            while not (self._asked or self._is_stopping):
                left = self._next_look() - time.monotonic()
                if left <= 0:
                    break
                self._wake.wait(left)
            asked, self._asked = self._asked, []
        return asked

    def _next_look(self) -> float:
        # Studies that come in wake the dispatcher often; the index is not asked as often.
        asked_for = self._looked_at + _LOOK_PAUSE_SECONDS if self._wants_look else float("inf")
        return min(self._all_at, self._due_at, asked_for, time.monotonic() + 3600)

    def _step(self, asked: list[Ring]) -> None:
        if asked and not self._is_down:
            self._rings.ring_all(asked)
        now = time.monotonic()
        if now >= self._all_at:
            self._ring_queued(again=True)
            self._all_at = now + self._settings().ring_again_seconds
            self._note_return()
        elif now >= self._next_look():
            self._ring_queued(again=False)

    def _ring_queued(self, *, again: bool) -> None:
        self._wants_look, self._looked_at = False, time.monotonic()
        now = datetime.now(UTC)
        with self._db.read() as connection:
            queued = job_list.queued(connection)
        ready = [job for job in queued if job.not_before is None or job.not_before <= now]
        new = [job for job in ready if again or self._rung.get(job.id) != job.attempt]
        if again and not new:
            # Nothing to ring with: it is asked instead, so that an outage is known of at once.
            look(self._settings().servers, _ASK_SECONDS)
        self._rings.ring_all([Ring(job.id, job.ae_title, job.priority) for job in new])
        self._rung = {job.id: job.attempt for job in ready}
        self._due_at = time.monotonic() + _seconds_to_next(queued, now)

    def _note_outage(self, error: QueueUnavailable) -> None:
        if not self._is_down:
            logs.get().error("gearmand does not answer", said=str(error), remedy=error.remedy)
        self._is_down = True
        self._all_at = 0.0
        time.sleep(_OUTAGE_PAUSE_SECONDS)

    def _note_return(self) -> None:
        if self._is_down:
            logs.get().info("gearmand answers again, every queued job was rung")
        self._is_down = False


def _seconds_to_next(queued: list[Queued], now: datetime) -> float:
    later = [job.not_before for job in queued if job.not_before and job.not_before > now]
    return (min(later) - now).total_seconds() if later else float("inf")
