"""Keep the alerts: judge the node, open what is found, end what is over, log both.

Log and event are the first two ways of telling; the others stand in `teller`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta

from appliance import logs
from appliance.disk.layout import Layout
from appliance.health import alert_facts
from appliance.health.alert_facts import Noted
from appliance.health.alerts import URGENT, Trouble, judge
from appliance.housekeeper import starts
from appliance.index import alerts, events
from appliance.index.alerts import Alert
from appliance.index.database import Database
from appliance.settings import Settings

_KEPT = timedelta(days=90)
_QUARANTINE_SECONDS = 600.0  # every entry is read


class Alarm:
    """What one housekeeper remembers between its looks at the node."""

    def __init__(self, db: Database, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._held = 0
        self._held_at = -_QUARANTINE_SECONDS

    def look(self, settings: Settings, noted: Noted, now: datetime) -> None:
        """Judge the node once; what cannot be asked just now changes nothing."""
        restarts = starts.look(self._layout.run, settings.receiver.processes, now)
        noted = replace(noted, restarts=restarts, held=self._count_held(now))
        facts = alert_facts.gather(settings, self._db, noted, now)
        self.settle(judge(facts, settings.alerts, now), now)

    def settle(self, found: list[Trouble], now: datetime) -> None:
        """Make the open alerts those that were found."""
        with self._db.read() as connection:
            open_now = {(one.kind, one.subject): one for one in alerts.open_alerts(connection)}
        for one in found:
            before = open_now.pop((one.kind, one.subject), None)
            if before is None or (before.sentence, before.remedy) != (one.sentence, one.remedy):
                self._begin(one, now)
        for over in open_now.values():
            self._end(over, now)

    def forget(self, now: datetime) -> None:
        """Remove what has been over for long."""
        alerts.forget(self._db, now - _KEPT)

    def _begin(self, one: Trouble, now: datetime) -> None:
        how = alerts.begin(self._db, one.kind, one.subject, one.sentence, one.remedy, now)
        if how != "raised":
            return
        say = logs.get().error if one.kind in URGENT else logs.get().warning
        say("alert", kind=one.kind, subject=one.subject, says=one.sentence, remedy=one.remedy)
        self._append("alert", one.sentence, one.kind, one.subject, now)

    def _end(self, over: Alert, now: datetime) -> None:
        if alerts.end(self._db, over.id, now):
            logs.get().info("alert ended", kind=over.kind, subject=over.subject)
            if over.began_at + alerts.QUIET <= now:
                sentence = f"It is over: {over.sentence}"
                self._append("alert ended", sentence, over.kind, over.subject, now)

    def _append(self, what: str, sentence: str, kind: str, subject: str, now: datetime) -> None:
        with self._db.write() as connection:
            events.append(
                connection, what, sentence, now, who="housekeeper", alert=kind, subject=subject
            )

    def _count_held(self, now: datetime) -> int:
        if time.monotonic() - self._held_at >= _QUARANTINE_SECONDS:
            self._held = alert_facts.held_for_long(self._layout, now)
            self._held_at = time.monotonic()
        return self._held
