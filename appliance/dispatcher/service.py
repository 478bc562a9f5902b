"""The dispatcher: one process that turns complete arrivals into queued jobs.

It sleeps until the earliest moment at which an arrival can be complete, or until
its bell rings: intake and the receiver ring it, and whoever queues a job.  Every
few seconds it also puts right what died: associations of dead receivers, jobs of
dead or silent workers.  A second dispatcher does no harm.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta

from appliance import bells, ids, lifecycle, logs, settings_file
from appliance.bells import Bell
from appliance.disk.layout import Layout
from appliance.dispatcher import completeness, launch, learning, reconcile
from appliance.dispatcher.completeness import Quiet, Verdict
from appliance.dispatcher.ringer import Ringer
from appliance.errors import BrookboxError, IndexUnavailable, explain
from appliance.index import arrivals, beats, set_back
from appliance.index.arrivals import OpenArrival
from appliance.index.database import Database, open_index
from appliance.queue.rings import Ring
from appliance.settings import Queue, Settings
from appliance.streams import broken, served
from appliance.streams.catalog import Stream, StreamWatcher
from appliance.streams.told import Told

_TICK = timedelta(seconds=5)
_WHY = timedelta(seconds=2)
_BEAT = timedelta(seconds=10)
_COALESCE_SECONDS = 0.05
_SHARE = 20  # times as long as a look took, which is long for a study of many associations
_CHANGED = timedelta(seconds=0.1)
_STUCK_SECONDS = 30.0
_AHEAD = timedelta(seconds=5)  # no receiver's clock is another than ours


def run(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    logs.set_up("dispatcher", settings.node.log_level)
    if os.environ.get("BROOKBOX_SUPERVISED") == "1":
        lifecycle.die_with_parent()
    bell = Bell(Layout(settings.data_root).run, "dispatcher")
    life = lifecycle.Lifecycle(bell.ring)
    try:
        db = open_index(settings)
    except BrookboxError as error:
        print(explain(error), file=sys.stderr)
        return 1
    code = Dispatcher(settings, db, bell, life).loop()
    bell.close()
    db.close()
    return code


class Dispatcher:
    """The loop, and what it remembers between two looks."""

    def __init__(
        self, settings: Settings, db: Database, bell: Bell, life: lifecycle.Lifecycle
    ) -> None:
        self._settings = settings
        self._db = db
        self._bell = bell
        self._life = life
        self._root = settings.data_root
        self._streams = StreamWatcher.of(settings)
        self._told = Told()
        self._ringer = Ringer(db, self._queue_settings, self._stumble)
        self._me = str(ids.this_process())
        self._tick_at = self._beat_at = self._why_at = datetime.min.replace(tzinfo=UTC)
        self._stuck: dict[int, float] = {}  # arrivals that a mistake of ours kept from launch
        self._is_index_away = self._has_stumbled = False
        self._says = ""
        self._clock = reconcile.Clock(datetime.now(UTC), time.monotonic())

    def loop(self) -> int:
        """Look, sleep, look again, until told to stop; the exit code."""
        self._ringer.start()
        logs.get().info("dispatcher started")
        while not self._life.is_stopping:
            now, began = datetime.now(UTC), time.monotonic()
            self._clock.look(now, began)
            wake_at = self._look(now)
            pause = max(_COALESCE_SECONDS, _SHARE * (time.monotonic() - began))
            # Never longer than a tick, should the clock have been set back in this very moment.
            if self._bell.wait(min(wake_at - datetime.now(UTC), _TICK).total_seconds()):
                self._ringer.look()
                # A study that comes in rings all the time.
                self._life.sleep(min(pause, max(0.0, (wake_at - now).total_seconds())))
        self._ringer.stop()
        self._ringer.join(10)
        self._leave()
        return 1 if self._has_stumbled else 0

    def _look(self, now: datetime) -> datetime:
        """Do what is due; give the moment of the next look."""
        if self._life.wants_reload():
            self._settings = settings_file.reloaded(self._settings)
        try:
            self._put_right(now)
            wake_at = min(self._close_complete(now), self._tick_at, self._why_at)
        except IndexUnavailable as error:
            if not self._is_index_away:
                logs.get().error("the index is away", said=str(error), remedy=error.remedy)
            self._is_index_away = True
            return now + timedelta(seconds=1)
        self._is_index_away = False
        return wake_at

    def _put_right(self, now: datetime) -> None:
        if now >= self._beat_at or self._beat_at - now > _BEAT:
            beats.beat(self._db, self._me, "dispatcher", now, self._says)
            self._beat_at = now + _BEAT
        if now >= self._why_at or self._why_at - now > _WHY:
            outage = self._ringer.outage
            reconcile.tell_why_jobs_wait(self._db, self._streams.current(), now, outage)
            if outage != self._says:
                self._says = outage
                beats.beat(self._db, self._me, "dispatcher", now, outage)
            self._why_at = now + _WHY
        if now >= self._tick_at or self._tick_at - now > _TICK:
            reconcile.close_dead_associations(self._db, now)
            if self._put_jobs_back(now):
                self._ringer.look()
                bells.ring(Layout(self._root).run, "router")  # one may have failed for good
            streams = self._streams.current()
            self._told.tell(streams)
            served.note(self._root, (stream.folder.name for stream in streams.serving()))
            broken.note(self._root, streams, now)
            self._tick_at = now + _TICK

    def _put_jobs_back(self, now: datetime) -> int:
        lease = self._settings.worker.lease_seconds
        trusts_leases = self._clock.trusts_leases(time.monotonic(), lease)
        return reconcile.put_lost_jobs_back(
            self._db, self._settings.jobs.max_attempts, now, trusts_leases=trusts_leases
        )

    def _close_complete(self, now: datetime) -> datetime:
        """Launch every complete arrival; give the moment at which the next may be complete."""
        rules = self._settings.completeness
        active_since = now - timedelta(seconds=rules.idle_seconds)
        is_open = arrivals.open_arrivals(self._db, active_since)
        if any(arrival.last_instance_at - now > _AHEAD for arrival in is_open):
            moved = set_back.pull_back(self._db, now)
            logs.get().warning("the clock was set back, studies wait from now on", arrivals=moved)
            is_open = arrivals.open_arrivals(self._db, active_since)
        learned = arrivals.learned_quiet(self._db) if is_open else {}
        next_at = now + _TICK
        for arrival in is_open:
            stream = self._streams.current().find(arrival.called_ae_title)
            own = stream.info.quiet_seconds if stream and stream.info else None
            quiet = completeness.quiet_of(arrival.calling_ae_titles, rules, own, learned)
            counted = completeness.counted_from(arrival, self._clock.even_since)
            verdict = completeness.judge(counted, rules, quiet, now)
            if not verdict.is_complete:
                next_at = min(next_at, verdict.wait_until)
            elif not self._launch(arrival, verdict, quiet, stream, now):
                next_at = min(next_at, now + _CHANGED)
        return next_at

    def _launch(
        self,
        arrival: OpenArrival,
        verdict: Verdict,
        quiet: Quiet,
        stream: Stream | None,
        now: datetime,
    ) -> bool:
        """Launch an arrival; False when something came in between, so that it is judged anew."""
        if time.monotonic() < self._stuck.get(arrival.id, 0.0):
            return True
        with logs.bound(study=arrival.study_uid, stream=arrival.called_ae_title):
            try:
                return self._make_job(arrival, verdict, quiet, stream, now)
            except IndexUnavailable:
                raise
            # The boundary of this process: a mistake with one arrival must not stop the others.
            except Exception:  # noqa: BLE001
                logs.get().exception("an arrival could not be launched", arrival=arrival.id)
                self._stuck[arrival.id] = time.monotonic() + _STUCK_SECONDS
                return True

    def _make_job(
        self,
        arrival: OpenArrival,
        verdict: Verdict,
        quiet: Quiet,
        stream: Stream | None,
        now: datetime,
    ) -> bool:
        info = stream.good_info if stream and stream.is_good else None
        on_resend = (info.on_resend if info else None) or self._settings.jobs.on_resend
        with self._db.read() as connection:
            before = arrivals.last_closed(connection, arrival)
        made = launch.launch(self._db, self._root, arrival, verdict, info, on_resend, now)
        if made is None:
            return False
        if made.job is not None:
            self._ringer.ring(Ring(made.job.id, made.job.ae_title, made.job.priority))
        self._stuck.pop(arrival.id, None)
        logs.get().info(
            "arrival closed",
            arrival=arrival.id,
            reason=verdict.reason,
            job=made.job.id if made.job else None,
            instances=made.job.input_count if made.job else None,
            note=made.note,
        )
        if self._settings.completeness.learn and not quiet.is_fixed and not verdict.incomplete:
            learning.learn(self._db, arrival, made.digest, before, self._settings.completeness)
        return True

    def _queue_settings(self) -> Queue:
        return self._settings.queue

    def _stumble(self) -> None:
        self._has_stumbled = True
        self._life.stop()

    def _leave(self) -> None:
        try:
            beats.remove(self._db, [self._me])
        except IndexUnavailable as error:
            logs.get().warning("the index is away", said=str(error))
        logs.get().info("dispatcher stopped")
