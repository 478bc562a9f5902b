"""How full the data volume is, as the gauge and the banners show it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from web.node import Node

_GB = 1024**3


@dataclass(frozen=True, slots=True)
class DiskUse:
    """The data volume: bytes, inodes, and what is kept in reserve (no study may take it)."""

    total_bytes: int
    free_bytes: int
    used_percent: float
    inodes_percent: float
    reserve_bytes: int

    @property
    def is_out_of_space(self) -> bool:
        """Say whether new associations are refused for want of space."""
        return self.total_bytes > 0 and self.free_bytes < self.reserve_bytes


def disk_use(node: Node) -> DiskUse:
    """Measure the data volume; all zero while there is none."""
    try:
        volume = os.statvfs(node.settings.data_root)
    except OSError:
        return DiskUse(0, 0, 0.0, 0.0, 0)
    total, free = volume.f_blocks * volume.f_frsize, volume.f_bavail * volume.f_frsize
    used = total - volume.f_bfree * volume.f_frsize
    rules = node.settings.receiver
    return DiskUse(
        total_bytes=total,
        free_bytes=free,
        used_percent=_percent(used, used + free),
        inodes_percent=_percent(volume.f_files - volume.f_favail, volume.f_files),
        reserve_bytes=int(max(rules.reserve_gb * _GB, total * rules.reserve_percent / 100)),
    )


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
