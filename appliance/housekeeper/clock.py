"""Notice when the wall clock jumps: leases move with it, a jump of a day stops retention.

Leases and ages are times of the wall clock.  The boot clock (CLOCK_BOOTTIME) goes on
evenly, in suspend too, so what the two differ by between two looks is a jump.  The last
look is kept in a file, so that a jump while the housekeeper was away is one as well; over
a reboot only a time away of over a month is taken for one.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

LEASE_JUMP = timedelta(seconds=60)
RETENTION_JUMP = timedelta(days=1)
LONGEST_ABSENCE = timedelta(days=30)
_FILE = "clock-jump.json"
_SEEN = "clock-seen.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks at one moment."""

    wall: datetime
    boot_seconds: float


def read(now: datetime) -> Reading:
    """Look at the boot clock; `now` is the wall clock's time."""
    return Reading(now, time.clock_gettime(time.CLOCK_BOOTTIME))


def jump(before: Reading, after: Reading) -> timedelta:
    """Say by how much the wall clock moved more than time went by."""
    passed = timedelta(seconds=after.boot_seconds - before.boot_seconds)
    return after.wall - before.wall - passed


def keep(run_folder: Path, seen: Reading) -> None:
    """Keep a look for the next start; what cannot be kept is not worth a stop."""
    facts = {"wall": seen.wall.isoformat(), "boot_seconds": seen.boot_seconds, "boot": _boot()}
    part = run_folder / f"{_SEEN}.part"
    part.write_text(json.dumps(facts), "utf-8")
    part.replace(run_folder / _SEEN)


def since_last_run(run_folder: Path, now: Reading) -> timedelta:
    """Say by how much the clock jumped since the last look of an earlier run.

    Over a reboot nobody can tell a jump from a machine that was off: only an absence of over
    a month counts, whole.  Without an earlier run there was none.
    """
    try:
        facts = json.loads((run_folder / _SEEN).read_text("utf-8"))
        before = Reading(datetime.fromisoformat(facts["wall"]), float(facts["boot_seconds"]))
        is_same_boot = facts["boot"] == _boot()
    except (OSError, ValueError, KeyError, TypeError):
        return timedelta(0)
    if is_same_boot:
        return jump(before, now)
    absent = now.wall - before.wall
    return absent if absent > LONGEST_ABSENCE else timedelta(0)


def _boot() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def stop_retention(run_folder: Path, by: timedelta, now: datetime) -> None:
    """Keep that the clock jumped, until an admin confirms that it is right now."""
    facts = {"jump_seconds": by.total_seconds(), "noticed_at": now.isoformat()}
    (run_folder / _FILE).write_text(json.dumps(facts), "utf-8")


def why_stopped(run_folder: Path) -> str:
    """Say why retention is stopped; "" when it is not."""
    try:
        facts = json.loads((run_folder / _FILE).read_text("utf-8"))
        days = facts["jump_seconds"] / 86400
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        days = 0.0
    return (
        f"The clock jumped by {days:+.1f} days, so nothing is removed until a person confirms "
        "that it is right: brookbox housekeeper-confirm"
    )


def confirm(run_folder: Path) -> bool:
    """Let retention go on; False when it was not stopped."""
    try:
        (run_folder / _FILE).unlink()
    except FileNotFoundError:
        return False
    return True
