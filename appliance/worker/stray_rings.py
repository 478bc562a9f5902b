"""Rings that nobody of this node made: no job id, or none of that stream.

gearmand asks nobody who he is, so whoever is on this machine may ring.  Such a ring does
nothing; that it came is told, once a minute and worker.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from appliance import logs
from appliance.errors import IndexUnavailable, NotFound
from appliance.index import events, jobs
from appliance.index.database import Database

_QUIET_SECONDS = 60.0


class StrayRings:
    """What one worker heard; asked by all its lanes."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._told_at = -_QUIET_SECONDS
        self._since_told = 0

    def is_stray(self, job_id: int, ae_title: str) -> bool:
        """Say whether no job of this stream has this id; IndexUnavailable when none can tell."""
        try:
            with self._db.read() as connection:
                return jobs.get(connection, job_id).ae_title != ae_title
        except NotFound:
            return True

    def note(self, ae_title: str, what: str) -> None:
        """Log it and append an event, unless that was done within the last minute."""
        with self._lock:
            self._since_told += 1
            if time.monotonic() - self._told_at < _QUIET_SECONDS:
                return
            count, self._since_told, self._told_at = self._since_told, 0, time.monotonic()
        logs.get().warning("rings that nobody made", stream=ae_title, what=what, rings=count)
        sentence = (
            f"gearmand rang for {ae_title} with {what}, which this node did not send: somebody "
            "on this machine, or who reaches gearmand's port, speaks with it. It does no harm."
        )
        try:
            with self._db.write() as connection:
                events.append(
                    connection, "rings that nobody made", sentence, datetime.now(UTC),
                    who="worker", stream=ae_title, rings=count,
                )  # fmt: skip
        except IndexUnavailable as error:
            logs.get().warning("event not written", reason=str(error))
