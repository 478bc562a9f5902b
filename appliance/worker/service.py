"""The worker: one process, one thread for each lane of each stream that it can run.

On SIGTERM it stops what runs and puts it back without counting the attempt.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from appliance import ids, lifecycle, logs, settings_file
from appliance.bells import Bell
from appliance.disk.layout import Layout
from appliance.errors import BrookboxError, IndexUnavailable, explain
from appliance.index import beats, lanes
from appliance.index.database import open_index
from appliance.index.lost_attempts import is_dead_process, requeue_lost
from appliance.settings import Settings
from appliance.streams.catalog import StreamWatcher
from appliance.worker import record
from appliance.worker.executors import all_executors
from appliance.worker.seats import Seats
from appliance.worker.site import Site

_LOOK_SECONDS = 0.5
_LANES_BEAT = timedelta(seconds=3)
_PROCESS_BEAT = timedelta(seconds=10)
_TIDY = timedelta(seconds=60)
_STOP_SECONDS = 35.0  # supervisord waits 40
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def run(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    logs.set_up("worker", settings.node.log_level)
    if os.environ.get("BROOKBOX_SUPERVISED") == "1":
        lifecycle.die_with_parent()
    layout = Layout(settings.data_root)
    bell = Bell(layout.run, "worker")
    life = lifecycle.Lifecycle(bell.ring)
    try:
        db = open_index(settings)
    except BrookboxError as error:
        print(explain(error), file=sys.stderr)
        return 1
    site = Site(settings, db, layout, str(ids.this_process()), all_executors(settings))
    code = Worker(site, bell, life).loop()
    bell.close()
    db.close()
    return code


class Worker:
    """The main thread beats; another, which may have to wait for Docker, keeps the lanes."""

    def __init__(self, site: Site, bell: Bell, life: lifecycle.Lifecycle) -> None:
        self._site = site
        self._bell = bell
        self._life = life
        self._watcher = StreamWatcher.of(site.settings)
        self._seats = Seats(site)
        self._told: list[tuple[object, ...]] = []  # what the last beat of the lanes said
        self._lanes_at = self._beat_at = self._tidy_at = self._follow_at = _LONG_AGO
        self._has_stumbled = False
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)

    def loop(self) -> int:
        """Beat, sleep, beat again, until told to stop; the exit code."""
        logs.get().info("worker started")
        threading.excepthook = self._on_thread_died
        self._upkeep.start()
        outage = Outage()
        while not self._life.is_stopping:
            if self._life.wants_reload():
                self._site.settings = settings_file.reloaded(self._site.settings)
            with outage.borne():
                self._beat(datetime.now(UTC))
            if self._bell.wait(_LOOK_SECONDS):
                with self._site.poke:
                    self._site.poke.notify_all()
        self._stop()
        return 1 if self._has_stumbled else 0

    def _keep_up(self) -> None:
        outage = Outage()
        while not self._site.stopping.is_set():
            with outage.borne():
                self._keep_up_once(datetime.now(UTC))
            self._site.stopping.wait(_LOOK_SECONDS)

    def _on_thread_died(self, died: threading.ExceptHookArgs) -> None:
        """Say it; without its upkeep the process is of no use: it ends and starts again."""
        trace = (died.exc_type, died.exc_value or died.exc_type(), died.exc_traceback)
        logs.get().error("a thread died", thread=getattr(died.thread, "name", ""), exc_info=trace)
        if died.thread is self._upkeep:
            self._has_stumbled = True
            self._life.stop()

    def _keep_up_once(self, now: datetime) -> None:
        """Put right what dead workers left; open and close lanes as the streams change."""
        # The first time before any lane opens: what died must not run beside it.
        if _is_due(self._tidy_at, _TIDY, now):
            self._tidy(now)
            self._tidy_at = now
        self._follow(now)

    def _follow(self, now: datetime) -> None:
        streams = self._watcher.current()
        if streams is self._site.streams and not _is_due(self._follow_at, _LANES_BEAT, now):
            return
        self._site.streams = streams
        with self._site.db.read() as connection:
            switched_off = lanes.switched_off(connection)
        self._seats.follow(switched_off)
        self._follow_at = now

    def _beat(self, now: datetime) -> None:
        rows = self._seats.rows(now)
        told = [(row.id, row.is_open, row.why_not, row.job_id) for row in rows]
        if told != self._told or _is_due(self._lanes_at, _LANES_BEAT, now):
            lanes.beat(self._site.db, self._site.worker, rows)
            self._lanes_at = now
        if told != self._told:
            self._site.ring("dispatcher")  # which tells the waiting jobs why they wait
            self._told = list(told)
        if _is_due(self._beat_at, _PROCESS_BEAT, now):
            beats.beat(self._site.db, self._site.worker, "worker", now)
            self._beat_at = now

    def _tidy(self, now: datetime) -> None:
        """Put right what dead workers of this machine left."""
        site = self._site
        site.sweep()
        # Of silent workers the dispatcher judges, which knows whether the clock jumped.
        most = site.settings.jobs.max_attempts
        for one in requeue_lost(site.db, most, now, trusts_leases=False):
            logs.get().warning("job put back", job=one.job.id, said=one.reason, state=one.state)
            site.ring("dispatcher")
        with site.db.read() as connection:
            dead = {worker for worker in lanes.workers(connection) if is_dead_process(worker)}
        if dead:
            lanes.remove_workers(site.db, sorted(dead))
        record.settle_all(site.db, site.layout)
        # What is older the housekeeper removes.
        kept = timedelta(days=site.settings.housekeeper.logs_days)
        record.settle_unrun(site.db, site.layout, now - kept)

    def _stop(self) -> None:
        """Stop what runs, wait for it, and say goodbye."""
        self._site.stopping.set()
        until = time.monotonic() + _STOP_SECONDS
        for lane in self._seats.lanes:
            lane.join(max(0.0, until - time.monotonic()))
        left = [lane.name for lane in self._seats.lanes]
        try:
            lanes.remove_workers(self._site.db, [self._site.worker])
            beats.remove(self._site.db, [self._site.worker])
        except IndexUnavailable as error:
            logs.get().warning("the index is away", said=str(error))
        self._site.ring("dispatcher")
        logs.get().info("worker stopped", still_running=left)


class Outage:
    """Bears that the index is away for a while, and says so once."""

    def __init__(self) -> None:
        self._is_on = False

    @contextlib.contextmanager
    def borne(self) -> Iterator[None]:
        """Do something that is done again soon; an index that is away ends it quietly."""
        try:
            yield
            self._is_on = False
        except IndexUnavailable as error:
            if not self._is_on:
                logs.get().error("the index is away", said=str(error), remedy=error.remedy)
            self._is_on = True


def _is_due(last_at: datetime, pause: timedelta, now: datetime) -> bool:
    """Say whether it is time again; a clock that was set back makes it so too."""
    return not timedelta(0) <= now - last_at < pause
