"""How full the data volume is, as the gauge and the banners show it."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.disk import space
from appliance.disk.space import Space
from web.node import Node


@dataclass(frozen=True, slots=True)
class DiskUse:
    """The data volume: how full, what is kept in reserve, and whether studies are refused.

    `degraded` says why the volume is not trusted any more; "" when it is.
    """

    total_bytes: int
    free_bytes: int
    used_percent: float
    reserve_bytes: int
    is_out_of_space: bool
    degraded: str


def disk_use(node: Node) -> DiskUse:
    """Measure the data volume; a folder that is not there has no space."""
    rules = node.settings.receiver
    try:
        found = space.measure(node.settings.data_root)
    except OSError as error:
        return DiskUse(0, 0, 100.0, 0, True, str(error))
    return DiskUse(
        total_bytes=found.total_bytes,
        free_bytes=found.free_bytes,
        used_percent=_percent(found),
        reserve_bytes=space.reserve_bytes(found, rules.reserve_gb, rules.reserve_percent),
        is_out_of_space=space.is_short(found, rules.reserve_gb, rules.reserve_percent),
        degraded=space.degraded(node.layout),
    )


def _percent(found: Space) -> float:
    return min(max(found.used_percent, 0.0), 100.0)
