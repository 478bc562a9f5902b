"""One sweep: what is too old goes, then what is needed to make room; each hour the rest.

Gives the sentence that the housekeeper's beat shows when the volume is full and
nothing more may be removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from appliance import logs
from appliance.amounts import count
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.disk.quarantine_list import QuarantineList
from appliance.disk.trees import remove_tree
from appliance.errors import NotFound, QuarantineError
from appliance.health.job_folders import job_ids
from appliance.housekeeper import removal, retention
from appliance.housekeeper.retention import Volume
from appliance.index import events
from appliance.index import retention as index
from appliance.index.database import Database
from appliance.index.retention import Holding
from appliance.settings import Housekeeper

_HOUR_SECONDS = 3600.0
_PORTION = 200  # holdings that go before the volume is looked at again


class Sweeper:
    """What one housekeeper remembers between its sweeps."""

    def __init__(self, db: Database, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._hourly_at = -_HOUR_SECONDS
        self._without_row: list[str] = []  # files that are still to go: an error came in between
        self._is_stuck = False  # full, and nothing more could go

    def is_needed(self, rules: Housekeeper) -> bool:
        """Say whether the volume filled up since the last sweep, or is well again."""
        return retention.is_full(self.volume(), rules) != self._is_stuck

    def sweep(self, rules: Housekeeper, now: datetime) -> str:
        """Remove what may go; a sentence when the volume stays full, else ""."""
        self._remove([])
        self._by_age(rules, now)
        says = self._make_room(rules, now)
        self._is_stuck = bool(says)
        if time.monotonic() - self._hourly_at >= _HOUR_SECONDS:
            self._hourly_at = time.monotonic()
            self._old_job_folders(rules, now)
            self._old_quarantine(rules, now)
            if orphans := removal.remove_orphans(self._db, self._layout):
                logs.get().info("files without a row removed", files=orphans)
        return says

    def volume(self) -> Volume:
        """Measure the volume of data_root."""
        facts = os.statvfs(self._layout.root)
        free = facts.f_bavail * facts.f_frsize
        used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        return Volume(
            all_bytes=used + free,
            free_bytes=free,
            all_files=facts.f_files - facts.f_ffree + facts.f_favail,
            free_files=facts.f_favail,
        )

    def _by_age(self, rules: Housekeeper, now: datetime) -> None:
        with self._db.read() as connection:
            received = index.received(connection, now - timedelta(days=rules.inputs_days))
            results = index.results(connection, now - timedelta(days=rules.results_days))
        due = [one for one in (*received, *results) if retention.is_too_old(one, rules, now)]
        self._forget(due, "its time was over", now)

    def _make_room(self, rules: Housekeeper, now: datetime) -> str:
        volume = self.volume()
        if not retention.is_full(volume, rules):
            return ""
        with self._db.read() as connection:
            oldest = index.received(connection, limit=_PORTION)
            oldest += index.results(connection, limit=_PORTION)
        if chosen := retention.to_make_room(oldest, volume, rules):
            self._forget(chosen, f"the volume was {volume.used_percent:.0f} % full", now)
            return ""
        return "" if self._outputs_go(volume, rules) else self._what_holds(volume, rules)

    def _forget(self, holdings: Iterable[Holding], why: str, now: datetime) -> None:
        for holding in holdings:
            removed = 0
            while paths := index.forget(self._db, holding):
                removed += self._remove(paths)
            if not removed:
                continue
            if holding.job_id is not None:
                remove_tree(self._layout.job(holding.job_id).output)
            what = "The received instances" if holding.kind == "received" else "The results"
            with self._db.write() as connection:
                events.append(
                    connection,
                    "removed",
                    f"{what} were removed ({removed} files, {holding.size_bytes} bytes): {why}.",
                    now,
                    who="housekeeper",
                    study_uid=holding.study_uid,
                    job_id=holding.job_id,
                )
            logs.get().info("removed", study=holding.study_uid, kind=holding.kind, why=why)

    def _remove(self, paths: list[str]) -> int:
        """Remove files whose rows are gone, and those that could not be removed before; how many.

        What is not removed now would stay until it is found as an orphan, an hour later.
        """
        self._without_row += paths
        removed = removal.remove_without_row(self._db, self._layout, self._without_row)
        self._without_row = []
        return removed

    def _outputs_go(self, volume: Volume, rules: Housekeeper) -> bool:
        """Remove OUTPUT of the oldest ended jobs until there is room; False when none was left."""
        spare, _ = retention.to_spare(volume, rules)
        removed = False
        for job_id, _ in self._ended_jobs():
            output = self._layout.job(job_id).output
            size, files = removal.size_of(output) if output.is_dir() else (0, 0)
            if files == 0:
                continue
            if removed and spare <= 0:
                break
            if not self._has_ended(job_id):  # a person had it run again meanwhile
                continue
            remove_tree(output)
            spare -= size
            removed = True
        return removed

    def _old_job_folders(self, rules: Housekeeper, now: datetime) -> None:
        logs, results = timedelta(days=rules.logs_days), timedelta(days=rules.results_days)
        for job_id, ended_at in self._ended_jobs():
            folder, age = self._layout.job(job_id), now - ended_at
            if age > min(logs, results) and self._has_ended(job_id):
                remove_tree(folder.path if age > logs else folder.output)
        with self._db.read() as connection:
            unknown = index.unknown_jobs(connection, job_ids(self._layout))
        for job_id in unknown:
            path = self._layout.job(job_id).path
            if _is_older(path, rules.logs_days, now):
                remove_tree(path)

    def _ended_jobs(self) -> list[tuple[int, datetime]]:
        """List the ended jobs that have a folder, those that ended first in front."""
        with self._db.read() as connection:
            ended = index.ended_jobs(connection, job_ids(self._layout))
        return sorted(ended.items(), key=lambda one: one[1])

    def _has_ended(self, job_id: int) -> bool:
        with self._db.read() as connection:
            return bool(index.ended_jobs(connection, [job_id]))

    def _old_quarantine(self, rules: Housekeeper, now: datetime) -> None:
        """Remove what nobody looked after; what is held for a person waits for one."""
        listed, removed = QuarantineList(self._layout), 0
        before = now - timedelta(days=rules.quarantine_days)
        for entry in listed.put_aside_before(before):
            if entry.kind is not Kind.HELD:
                # A person was faster, or is at it just now; or it comes again this moment.
                with suppress(NotFound, QuarantineError):
                    removed += quarantine.remove_outdated(self._layout, entry.id, before)
        for path in listed.strays():
            if _is_older(path, rules.quarantine_days, now):
                path.unlink(missing_ok=True)
        if removed:
            sentence = f"{count(removed, 'file')} in quarantine: their time was over."
            with self._db.write() as connection:
                events.append(connection, "removed", f"Removed {sentence}", now, who="housekeeper")
            logs.get().info("old files in quarantine removed", files=removed)

    def _what_holds(self, volume: Volume, rules: Housekeeper) -> str:
        with self._db.read() as connection:
            kept = index.kept_bytes(connection)
            hindrances = index.hindrances(connection)
        others = volume.all_bytes - volume.free_bytes - kept
        return retention.what_holds(volume, hindrances, rules, others)


def _is_older(path: Path, days: float, now: datetime) -> bool:
    try:
        return now.timestamp() - path.stat().st_mtime > days * 86400
    except FileNotFoundError:
        return False
