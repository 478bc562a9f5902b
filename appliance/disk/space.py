"""How much room the data volume has, and whether it can be trusted.

The reserve is never filled by reception: jobs, the index and the logs need it.  Below
it no association is accepted, below half of it no instance of an open one.  A volume
is degraded once a sync failed on it; it stays so until the receiver is started again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.amounts import DISK_GB
from appliance.disk.layout import Layout

_FEWEST_INODES = 1000


@dataclass(frozen=True, slots=True)
class Space:
    """One volume; `inodes` is 0 where the file system does not count them."""

    total_bytes: int
    free_bytes: int
    inodes: int
    free_inodes: int

    @property
    def used_percent(self) -> float:
        """Use of the volume, of bytes or inodes, whichever is more."""
        of_bytes = 100 * (1 - self.free_bytes / self.total_bytes) if self.total_bytes else 100.0
        of_inodes = 100 * (1 - self.free_inodes / self.inodes) if self.inodes else 0.0
        return max(of_bytes, of_inodes)


def measure(folder: Path) -> Space:
    """Measure the volume of a folder, as far as this user may fill it."""
    found = os.statvfs(folder)
    return Space(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        inodes=found.f_files,
        free_inodes=found.f_favail,
    )


def reserve_bytes(space: Space, reserve_gb: float, reserve_percent: float) -> int:
    """Give what is always left free: the larger of the two settings."""
    return int(max(reserve_gb * DISK_GB, space.total_bytes * reserve_percent / 100))


@dataclass(frozen=True, slots=True)
class Floor:
    """What must stay free; `inodes` is 0 where the file system does not count them."""

    bytes: int
    inodes: int

    def is_undercut(self, folder: Path) -> bool:
        """Look at the volume of a folder, in one call and no more."""
        found = os.statvfs(folder)
        if found.f_bavail * found.f_frsize < self.bytes:
            return True
        return found.f_files > 0 and found.f_favail < self.inodes


def floor(space: Space, reserve_gb: float, reserve_percent: float) -> Floor:
    """Give the reserve in bytes and inodes."""
    inodes = max(_FEWEST_INODES, int(space.inodes * reserve_percent / 100)) if space.inodes else 0
    return Floor(reserve_bytes(space, reserve_gb, reserve_percent), inodes)


def is_short(space: Space, reserve_gb: float, reserve_percent: float) -> bool:
    """Say whether bytes or inodes have come down to the reserve."""
    least = floor(space, reserve_gb, reserve_percent)
    return space.free_bytes < least.bytes or bool(space.inodes and space.free_inodes < least.inodes)


def mark_degraded(layout: Layout, why: str) -> None:
    """Note that a sync failed; best done, since the volume may refuse this note too."""
    with suppress(OSError):
        _note(layout).write_text(why, encoding="utf-8")


def degraded(layout: Layout) -> str:
    """Say why the volume is degraded; "" when it is not."""
    note = _note(layout)
    try:
        if not note.exists():  # needs no descriptor, of which there may be none left
            return ""
        # The note may be empty, on a volume that took no byte any more.
        return note.read_text("utf-8") or "A sync failed."
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"It cannot be read: {error.strerror}."


def clear_degraded(layout: Layout) -> None:
    """Trust the volume again; the receiver does so when it starts."""
    with suppress(OSError):
        _note(layout).unlink(missing_ok=True)


def _note(layout: Layout) -> Path:
    return layout.run / "degraded"
