"""The router process: routes what has ended, sends what is due, sleeps until the next.

Its bell "router" wakes it; without a ring it looks every ten seconds.  Killed at any
point, the next start takes back what was being sent and goes on.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from appliance import ids, lifecycle, logs
from appliance.bells import Bell
from appliance.disk.layout import Layout
from appliance.errors import BrookboxError, IndexUnavailable, explain
from appliance.index import beats, database, deliveries
from appliance.index.database import Database
from appliance.lifecycle import Lifecycle
from appliance.router import routes
from appliance.router.routing_watch import RoutingWatcher
from appliance.router.senders import Senders
from appliance.settings import Settings
from appliance.settings_file import reloaded

_LOOK_SECONDS = 10.0
_STOP_SECONDS = 20.0


def run(settings: Settings) -> int:
    """Route and send until asked to stop; give the exit code."""
    logs.set_up("router", settings.node.log_level)
    if os.environ.get("BROOKBOX_SUPERVISED") == "1":
        lifecycle.die_with_parent()
    layout = Layout(settings.data_root)
    try:
        layout.make()
        db = database.open_index(settings)
    except BrookboxError as error:
        print(explain(error), file=sys.stderr)
        return 1
    bell = Bell(layout.run, "router")
    life = Lifecycle(wake=bell.ring)
    try:
        _Router(settings, db, bell, life).run()
    finally:
        bell.close()
        db.close()
    return 0


class _Router:
    """The loop; its only state are the settings, the rules and the running threads."""

    def __init__(self, settings: Settings, db: Database, bell: Bell, life: Lifecycle) -> None:
        self._settings = settings
        self._db = db
        self._bell = bell
        self._life = life
        self._watcher = RoutingWatcher(settings, keeps_last_good=True)
        self._senders = Senders(db, bell.ring)
        self._process = str(ids.this_process())
        self._kept_at: datetime | None = None
        self._has_index = True

    def run(self) -> None:
        logs.get().info("router started")
        while not self._life.is_stopping:
            if self._life.wants_reload():
                self._settings = reloaded(self._settings)
                self._watcher.use(self._settings)
            try:
                pause = self._turn(datetime.now(UTC))
                self._has_index = True
            except IndexUnavailable as error:
                if self._has_index:
                    logs.get().error("index not available, waiting for it", error=str(error))
                self._has_index = False
                pause = 1.0
            self._bell.wait(pause)
        self._senders.stop(_STOP_SECONDS)
        self._take_beat_away()
        logs.get().info("router stopped")

    def _turn(self, now: datetime) -> float:
        """Do what is to be done now; give how long there is nothing to do."""
        rules = self._watcher.current()
        # abs: a clock that was set back must not keep the leases from being renewed.
        if self._kept_at is None or abs((now - self._kept_at).total_seconds()) >= _LOOK_SECONDS:
            self._senders.renew(now)
            if count := self._senders.take_back(now):
                logs.get().warning("deliveries taken back from a dead router", deliveries=count)
            beats.beat(self._db, self._process, "router", now, rules.problem)
            self._kept_at = now
        routes.route_ended_jobs(self._db, self._settings.data_root, rules, now)
        with self._db.write() as connection:
            if count := deliveries.stop_superseded(connection, now):
                logs.get().info("deliveries of superseded jobs stopped", deliveries=count)
        if not rules.is_known:
            return _LOOK_SECONDS
        self._senders.fill(self._settings, rules, now)
        return self._pause(deliveries.next_due_at(self._db, self._senders.busy(rules)), now)

    def _pause(self, due_at: datetime | None, now: datetime) -> float:
        if due_at is None:
            return _LOOK_SECONDS
        return min(max((due_at - now).total_seconds(), 0.05), _LOOK_SECONDS)

    def _take_beat_away(self) -> None:
        try:
            beats.remove(self._db, [self._process])
        except IndexUnavailable as error:
            logs.get().warning("the last beat stays", error=str(error))
