"""Gather the facts that `alerts` judges: from the index, the disk, the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appliance.disk import quarantine, space
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.health import backup_folders, certificates, kernel_clock, machine_checks
from appliance.health.alerts import HELD_AGE, HINDERED_AGE, BrokenStream, Clock, Facts
from appliance.index import troubles
from appliance.index.database import Database
from appliance.settings import Settings
from appliance.streams import broken

_FAILURES_AGE = timedelta(days=7)
_GIVEN_UP_AGE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Noted:
    """What the housekeeper knows itself: its own sentences, and who was restarted."""

    full: str = ""
    no_backup: str = ""
    clock_jumped: str = ""
    restarts: Mapping[str, int] = field(default_factory=dict)
    held: int = 0


def gather(settings: Settings, db: Database, noted: Noted, now: datetime) -> Facts:
    """Look once; IndexUnavailable when the index cannot be asked."""
    layout, rules = Layout(settings.data_root), settings.alerts
    backups = backup_folders.found_in(layout.backups)
    with db.read() as connection:
        failed = troubles.failed_in_a_row(connection, now - _FAILURES_AGE)
        down = troubles.destinations_down(connection)
        given_up = troubles.given_up(connection, now - _GIVEN_UP_AGE)
        long_ago = now - timedelta(minutes=rules.waiting_minutes)
        waiting = troubles.waiting_longest(connection, long_ago)
        hindered = troubles.hindered_longest(connection, max(long_ago, now - HINDERED_AGE))
        kept_since = troubles.first_entry_at(connection)
    volume = space.measure(layout.root)
    return Facts(
        refusals=tuple(machine_checks.refusals(settings, volume)),
        full=noted.full,
        failed_in_a_row=failed,
        broken=_broken(settings),
        down=down,
        given_up=given_up,
        waiting=waiting,
        hindered=hindered,
        backup_at=backups[-1].made_at if backups else None,
        kept_since=kept_since,
        no_backup=noted.no_backup,
        restarts=noted.restarts,
        held=noted.held,
        clock=Clock(noted.clock_jumped, kernel_clock.is_synchronised(), kernel_clock.up()),
        certificates=certificates.look(settings.home, certificates.watched(settings)),
    )


def _broken(settings: Settings) -> list[BrokenStream]:
    return [
        BrokenStream(
            one.subject, one.sentence, one.remedy, one.is_served, datetime.fromisoformat(one.since)
        )
        for one in broken.noted(settings.data_root)
    ]


def held_for_long(layout: Layout, now: datetime) -> int:
    """Count what has waited in quarantine for a person's decision for over a day."""
    return sum(
        one.kind == Kind.HELD and now - one.received_at > HELD_AGE
        for one in quarantine.entries(layout)
    )
