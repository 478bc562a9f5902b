"""Tell alerts by the ways that the settings name, in a thread: no way holds the beat up.

A way that fails is tried again, later and later; what went by one way already is not
repeated by it.  What is told is kept in the index, so that a restart tells it once more
at most.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from appliance import logs
from appliance.errors import IndexUnavailable
from appliance.health import tell
from appliance.health.tell import Message, Way
from appliance.index import alerts
from appliance.index.alerts import Alert
from appliance.index.database import Database
from appliance.settings import Settings

_FIRST_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 3600.0
_AT_ONCE = 20


class Teller:
    """The thread, when there is one, and what each way has taken."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._thread: threading.Thread | None = None
        self._taken: set[tuple[str, int, str]] = set()
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def look(self, settings: Settings, now: datetime) -> None:
        """Begin to tell what is untold, unless that goes on; never waits."""
        ways = tell.ways(settings)
        if not ways or (self._thread is not None and self._thread.is_alive()):
            return
        if not any(self._is_due(name) for name in ways):
            return
        with self._db.read() as connection:
            untold = alerts.untold(connection, now)[:_AT_ONCE]
        if untold:
            title = settings.node.ae_title
            self._thread = threading.Thread(
                target=self._tell, args=(ways, untold, title, now), name="teller", daemon=True
            )
            self._thread.start()

    def _tell(self, ways: dict[str, Way], untold: list[Alert], node: str, at: datetime) -> None:
        try:
            for one in untold:
                message = message_of(one, node)
                took = [self._tell_by(name, way, one, message) for name, way in ways.items()]
                if all(took):
                    alerts.note_told(self._db, one, at)
                    self._taken -= {(name, one.id, message.state) for name in ways}
        except IndexUnavailable as error:
            logs.get().warning("alert told, but not noted", why=str(error))

    def _tell_by(self, name: str, way: Way, alert: Alert, message: Message) -> bool:
        key = (name, alert.id, message.state)
        if key in self._taken:
            return True
        if not self._is_due(name):
            return False
        if why := way(message):
            self._put_off(name, why)
            return False
        self._failures.pop(name, None)
        self._taken.add(key)
        logs.get().info("alert told", way=name, kind=alert.kind, state=message.state)
        return True

    def _put_off(self, name: str, why: str) -> None:
        failures = self._failures.get(name, 0)
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 20), _LONGEST_PAUSE_SECONDS)
        self._failures[name] = failures + 1
        self._not_before[name] = time.monotonic() + pause
        logs.get().error("alert not told", way=name, why=why, again_in_seconds=pause)

    def _is_due(self, name: str) -> bool:
        return time.monotonic() >= self._not_before.get(name, 0.0)


def message_of(alert: Alert, node: str) -> Message:
    """Say an alert as it stands."""
    return Message(
        node=node,
        state="open" if alert.ended_at is None else "ended",
        kind=alert.kind,
        subject=alert.subject,
        sentence=alert.sentence,
        remedy=alert.remedy,
        began_at=_iso(alert.began_at),
        ended_at=_iso(alert.ended_at) if alert.ended_at else "",
    )


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
