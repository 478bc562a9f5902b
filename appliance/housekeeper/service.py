"""The housekeeper's loop: its own beat, the heartbeat of the others, sweeps, nightly backups,
alerts, and the node's own numbers.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance import ids, lifecycle, logs, settings_file
from appliance.disk import trash
from appliance.disk.layout import Layout
from appliance.errors import BrookboxError, IndexUnavailable, explain
from appliance.health import backup_folders, backups
from appliance.health.alert_facts import Noted
from appliance.housekeeper import clock, obituary, removal, sampler
from appliance.housekeeper.alarm import Alarm
from appliance.housekeeper.heartbeat import Heartbeat
from appliance.housekeeper.sampler import Sampler
from appliance.housekeeper.sweep import Sweeper
from appliance.housekeeper.teller import Teller
from appliance.index import beats, events, going, lanes
from appliance.index import retention as index
from appliance.index.database import Database, open_index
from appliance.lifecycle import Lifecycle
from appliance.settings import Settings

NAME = "housekeeper"
_OWN_BEAT_SECONDS = 10.0
_LOOK_SECONDS = 0.5
_LEFTOVERS_SECONDS = 300.0
_AFTER_JUMP_SECONDS = 600.0
_BACKUP_LOOK_SECONDS = 600.0
_ERASURES_SECONDS = 10.0
_SPACE_SECONDS = 5.0
_ALERTS_SECONDS = 30.0
_FORGET_SECONDS = 3600.0
_FORGOTTEN_HOST = timedelta(hours=1)


def run(settings: Settings) -> int:
    """Keep house until asked to stop; the exit code."""
    logs.set_up(NAME, settings.node.log_level)
    if os.environ.get("BROOKBOX_SUPERVISED") == "1":
        lifecycle.die_with_parent()
    life = Lifecycle()
    try:
        db = open_index(settings)
    except BrookboxError as error:
        print(explain(error), file=sys.stderr)
        return 1
    housekeeper = _Housekeeper(db, settings)
    try:
        while not life.sleep(_LOOK_SECONDS):
            if life.wants_reload():
                housekeeper.settings = settings_file.reloaded(housekeeper.settings)
            housekeeper.work(datetime.now(UTC))
    except Exception:  # noqa: BLE001 - the process's boundary
        logs.get().exception("housekeeper failed")
        return 1
    finally:
        housekeeper.leave()
        db.close()
    return 0


@dataclass(slots=True)
class _Due:
    """Something that is done again and again."""

    at: float = 0.0

    def is_due(self, each_seconds: float) -> bool:
        """Say whether it is time, and count from now when it is."""
        if time.monotonic() < self.at:
            return False
        self.at = time.monotonic() + each_seconds
        return True


class _Housekeeper:
    """The chores, each at its own pace; one that fails does not keep the others from their turn."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.settings = settings
        self._db = db
        self._layout = Layout(settings.data_root)
        self._me = str(ids.this_process())
        self._sweeper = Sweeper(db, self._layout)
        self._heartbeat = Heartbeat(db, self._layout)
        self._alarm = Alarm(db, self._layout)
        self._teller = Teller(db)
        self._sampler = Sampler(db, self._layout)
        self._clock = clock.read(datetime.now(UTC))
        self._missed = clock.since_last_run(self._layout.run, self._clock)
        self._own_beat = _Due()
        self._deaths = _Due()
        # The others need a moment to come up before they are asked.
        self._others = _Due(time.monotonic() + max(settings.housekeeper.beat_seconds, 5.0))
        self._watch = _Due(self._others.at)
        self._tell = _Due(self._others.at)
        self._sample = _Due()
        self._forget = _Due()
        self._sweep = _Due()
        self._space = _Due()
        self._leftovers = _Due()
        self._backup = _Due()
        self._erasures = _Due()
        self._full = self._failing = self._no_backup = ""
        self._troubles: dict[str, str] = {}

    def work(self, now: datetime) -> None:
        """Do what is due."""
        rules = self.settings.housekeeper
        chores = (
            (self._look_at_clock, True),
            (self._say_alive, self._own_beat.is_due(_OWN_BEAT_SECONDS)),
            (self._look_who_died, self._deaths.is_due(_OWN_BEAT_SECONDS)),
            (self._ask_others, self._others.is_due(rules.beat_seconds)),
            (self._back_up, self._backup.is_due(_BACKUP_LOOK_SECONDS)),
            (self._make_room, self._sweep.is_due(rules.sweep_seconds)),
            (self._make_room_now, self._space.is_due(_SPACE_SECONDS)),
            (self._adopt_leftovers, self._leftovers.is_due(_LEFTOVERS_SECONDS)),
            (self._finish_erasures, self._erasures.is_due(_ERASURES_SECONDS)),
            (self._look_for_trouble, self._watch.is_due(min(rules.beat_seconds, _ALERTS_SECONDS))),
            (self._tell_alerts, self._tell.is_due(min(rules.beat_seconds, _ALERTS_SECONDS))),
            (self._sampler.sample, self._sample.is_due(sampler.SECONDS)),
            (self._alarm.forget, self._forget.is_due(_FORGET_SECONDS)),
        )
        for chore, is_due in chores:
            if is_due:
                try:
                    chore(now)
                except (BrookboxError, OSError) as error:
                    self._note_trouble(chore.__name__, str(error))
                else:
                    self._troubles.pop(chore.__name__, None)

    def _note_trouble(self, chore: str, why: str) -> None:
        """Log what keeps a chore from being done, once and not at each try."""
        if self._troubles.get(chore) != why:
            logs.get().warning("chore failed", chore=chore.strip("_"), why=why)
        self._troubles[chore] = why

    def leave(self) -> None:
        """Take the beat away: this process stops as it should."""
        try:
            beats.remove(self._db, [self._me])
        except IndexUnavailable as error:
            logs.get().warning("beat not removed", why=str(error))

    def _look_at_clock(self, now: datetime) -> None:
        missed, self._missed = self._missed, timedelta(0)
        if abs(missed) > clock.RETENTION_JUMP:
            # Leases are left alone: who lives has renewed his since.
            clock.stop_retention(self._layout.run, missed, now)
            self._tell_of_jump(missed, now, "since the housekeeper ran last")
        seen = clock.read(now)
        by = clock.jump(self._clock, seen)
        if abs(by) <= clock.LEASE_JUMP:
            # Small steps of NTP are not added up: each look starts anew.
            self._clock = seen
            return
        # What was written a moment ago may look old now: it gets its ten minutes.
        self._sweep.at = time.monotonic() + _AFTER_JUMP_SECONDS
        moved = index.move_leases(self._db, by)
        self._clock = seen
        if abs(by) > clock.RETENTION_JUMP:
            clock.stop_retention(self._layout.run, by, now)
        self._tell_of_jump(by, now, f"{moved} leases moved with it")

    def _tell_of_jump(self, by: timedelta, now: datetime, more: str) -> None:
        sentence = f"The clock jumped by {by.total_seconds():+.0f} s; {more}."
        logs.get().warning("clock jumped", by_seconds=by.total_seconds(), said=more)
        with self._db.write() as connection:
            events.append(connection, "clock jumped", sentence, now, who=NAME)

    def _say_alive(self, now: datetime) -> None:
        says = " ".join(
            part
            for part in (
                clock.why_stopped(self._layout.run),
                self._full,
                self._failing,
                self._no_backup,
            )
            if part
        )
        try:
            beats.beat(self._db, self._me, NAME, now, says)
        except IndexUnavailable:
            self._heartbeat.note_index(now, is_writable=False)
            raise
        self._heartbeat.note_index(now, is_writable=True)
        clock.keep(self._layout.run, self._clock)
        self._forget_the_dead(now)

    def _look_who_died(self, now: datetime) -> None:
        obituary.look(self._db, self._layout, now)

    def _ask_others(self, now: datetime) -> None:
        failing = self._heartbeat.beat(self.settings, now)
        self._failing = " ".join(f"{name} gives no answer: {why}." for name, why in failing.items())

    def _make_room(self, now: datetime) -> None:
        if not clock.why_stopped(self._layout.run):
            full = self._sweeper.sweep(self.settings.housekeeper, now)
            if full and full != self._full:
                logs.get().error("volume full, nothing may be removed", says=full)
            self._full = full

    def _make_room_now(self, now: datetime) -> None:
        """Make room without waiting for the next sweep when the volume has filled up."""
        # What a jump of the clock put off stays put off.
        if self._sweep.at - time.monotonic() > self.settings.housekeeper.sweep_seconds:
            return
        if self._sweeper.is_needed(self.settings.housekeeper):
            self._make_room(now)

    def _back_up(self, now: datetime) -> None:
        rules = self.settings.housekeeper
        folder = self._layout.backups
        tonight = f"{backup_folders.NIGHTLY}{now:%Y%m%d}"
        # Not one that ends in .part: that is what is left of one that was killed.
        if now.hour < rules.backup_hour_utc or any(folder.glob(f"{tonight}T*Z")):
            return
        try:
            made = backups.make_backup(self.settings, folder, now, name=f"{tonight}T{now:%H%M%SZ}")
        except BrookboxError as error:
            self._no_backup = f"There is no backup of this night: {error}. Try: {error.remedy}."
            raise
        self._no_backup = ""
        logs.get().info("backup made", folder=made.folder.name, left_out=len(made.left_out))
        backup_folders.remove_old_nightly(folder, rules.backups_kept)

    def _look_for_trouble(self, now: datetime) -> None:
        jumped = clock.why_stopped(self._layout.run)
        noted = Noted(full=self._full, no_backup=self._no_backup, clock_jumped=jumped)
        self._alarm.look(self.settings, noted, now)

    def _tell_alerts(self, now: datetime) -> None:
        self._teller.look(self.settings, now)

    def _adopt_leftovers(self, now: datetime) -> None:
        """Have adopted what a dead web process left; the receiver looks after its own."""
        if not removal.has_leftovers(self._layout):
            return
        # Imported when needed: it reads DICOM, with libraries that take 25 MB.
        from appliance.intake.adoption import adopt
        from appliance.streams.catalog import streams_of

        adopt(self._db, self._layout, streams_of(self.settings), now)

    def _finish_erasures(self, now: datetime) -> None:
        """Finish what was killed in the middle; what a living process is at is left to it."""
        if not trash.is_free(self._layout):
            return
        with self._db.read() as connection:
            has_marks = going.are_any(connection)
        if not has_marks and not trash.begun(self._layout):
            return
        # Imported when needed: it reads DICOM.
        from appliance.erasure.act import Erasing

        for one in Erasing(self.settings, self._db).finish_all(now, 0):
            logs.get().warning(
                "erasure finished",
                erasure=one.id,
                instances=one.instances,
                stays_in_quarantine=list(one.staying),
            )

    def _forget_the_dead(self, now: datetime) -> None:
        with self._db.read() as connection:
            seen = beats.all_beats(connection)
            serving = lanes.workers(connection)
        dead = [one.process for one in seen if _is_dead(one.process, one.at, now)]
        alive = {one.process for one in seen} - set(dead)
        beats.remove(self._db, dead)
        gone = [worker for worker in serving - alive if _is_dead(worker, None, now)]
        if gone:
            lanes.remove_workers(self._db, gone)


def _is_dead(process: str, last_beat: datetime | None, now: datetime) -> bool:
    """Say whether a process is gone: seen by its pid here, by long silence elsewhere."""
    try:
        name = ids.parse_process(process)
    except ValueError:
        return True
    if name.host == ids.this_process().host:
        return not name.is_alive()
    return last_beat is None or now - last_beat > _FORGOTTEN_HOST
