"""One sweep: what is too old goes, then what is needed to make room; and orphans, each hour.

Gives the sentence that the housekeeper's beat shows when the volume is full and
nothing may be removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from appliance import logs
from appliance.disk.layout import Layout
from appliance.housekeeper import removal, retention
from appliance.housekeeper.retention import Volume
from appliance.index import events, figures
from appliance.index import retention as index
from appliance.index.database import Database
from appliance.index.retention import Holding
from appliance.settings import Housekeeper

_ORPHANS_EACH_SECONDS = 3600.0
_PORTION = 200  # holdings that go before the next look at the volume


class Sweeper:
    """What one housekeeper remembers between its sweeps."""

    def __init__(
        self, db: Database, layout: Layout, grace_seconds: float = removal.GRACE_SECONDS
    ) -> None:
        self._db = db
        self._layout = layout
        self._pending = removal.Pending(grace_seconds)
        self._orphans_at = -_ORPHANS_EACH_SECONDS

    def sweep(self, rules: Housekeeper, now: datetime) -> str:
        """Remove what may go; a sentence when the volume stays full, else ""."""
        self._pending.remove_due(self._db, self._layout)
        self._by_age(rules, now)
        self._old_job_folders(rules, now)
        self._old_quarantine(rules, now)
        says = self._make_room(rules, now)
        if time.monotonic() - self._orphans_at >= _ORPHANS_EACH_SECONDS:
            self._orphans_at = time.monotonic()
            if count := removal.remove_orphans(self._db, self._layout):
                logs.get().info("files without a row removed", files=count)
        return says

    def volume(self) -> Volume:
        """Measure the volume of data_root; what is about to go counts as free."""
        facts = os.statvfs(self._layout.root)
        used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        free = facts.f_bavail * facts.f_frsize
        used_files = facts.f_files - facts.f_ffree
        return Volume(
            all_bytes=used + free,
            free_bytes=free,
            all_files=used_files + facts.f_favail,
            free_files=facts.f_favail,
            pending_bytes=self._pending.size_bytes,
            pending_files=self._pending.files,
        )

    def _by_age(self, rules: Housekeeper, now: datetime) -> None:
        for list_of, days in ((index.received, rules.inputs_days), (index.results, rules.results_days)):
            before = now - timedelta(days=days)
            with self._db.read() as connection:
                found = list_of(connection, before)
            due = [one for one in found if retention.is_too_old(one, rules, now)]
            self._forget(due, f"it was kept for {days:g} days", now)

    def _make_room(self, rules: Housekeeper, now: datetime) -> str:
        for find in (self._oldest, self._nothing):
            volume = self.volume()
            chosen = retention.to_make_room(find(), volume, rules)
            if not retention.is_full(volume, rules):
                return ""
            if chosen:
                why = f"the volume was {volume.used_percent:.0f} % full"
                self._forget(chosen, why, now)
                return ""
        if self._oldest_outputs(now):
            return ""
        return self._what_holds(rules)

    def _oldest(self) -> list[Holding]:
        with self._db.read() as connection:
            return [
                *index.received(connection, limit=_PORTION),
                *index.results(connection, limit=_PORTION),
            ]
