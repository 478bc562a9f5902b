"""What goes, and in what order: by age, and by space when the volume fills up.

Pure: functions of what the index holds, of the volume and of the clock.  What may
go at all, the index says (`index.retention`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from appliance.amounts import count, of_disk
from appliance.index.retention import Hindrance, Holding
from appliance.settings import Housekeeper


@dataclass(frozen=True, slots=True)
class Volume:
    """The volume of data_root; a file system without a fixed number of inodes says 0 files."""

    all_bytes: int
    free_bytes: int
    all_files: int
    free_files: int

    @property
    def used_percent(self) -> float:
        """The use of bytes or inodes, whichever is higher."""
        shares = [
            _share(self.all_bytes, self.free_bytes),
            _share(self.all_files, self.free_files),
        ]
        return max(shares)


def is_too_old(holding: Holding, rules: Housekeeper, now: datetime) -> bool:
    """Say whether the time of a holding is over."""
    days = rules.inputs_days if holding.kind == "received" else rules.results_days
    return now - holding.since > timedelta(days=days)


def is_full(volume: Volume, rules: Housekeeper) -> bool:
    """Say whether room has to be made before anything's time is over."""
    return volume.used_percent > rules.high_percent


def to_make_room(holdings: Iterable[Holding], volume: Volume, rules: Housekeeper) -> list[Holding]:
    """Choose the oldest holdings until the use of the volume is down to `low_percent`.

    Nothing is chosen while the use is not above `high_percent`.
    """
    chosen: list[Holding] = []
    if not is_full(volume, rules):
        return chosen
    spare_bytes, spare_files = to_spare(volume, rules)
    for holding in sorted(holdings, key=lambda one: one.since):
        if spare_bytes <= 0 and spare_files <= 0:
            break
        chosen.append(holding)
        spare_bytes -= holding.size_bytes
        spare_files -= holding.files
    return chosen


def what_holds(
    volume: Volume, hindrances: Sequence[Hindrance], rules: Housekeeper, other_bytes: int
) -> str:
    """Say what takes the space of a full volume of which nothing may be removed."""
    parts = [
        f"{of_disk(one.size_bytes)} of {count(one.studies, 'study')} ({one.reason})"
        for one in hindrances
    ]
    if other_bytes > 0:
        parts.append(f"{of_disk(other_bytes)} that are not instances of this node")
    held = "; ".join(parts) or "nothing that this node keeps"
    return (
        f"The volume is {volume.used_percent:.0f} % full (above {rules.high_percent:g} %) and "
        f"nothing more may be removed. It is held by: {held}."
    )


def to_spare(volume: Volume, rules: Housekeeper) -> tuple[float, float]:
    """Say how many bytes and files must go until the use is down to `low_percent`."""
    used_bytes = volume.all_bytes - volume.free_bytes
    used_files = volume.all_files - volume.free_files
    share = rules.low_percent / 100
    return used_bytes - share * volume.all_bytes, used_files - share * volume.all_files


def _share(all_of_it: int, free: int) -> float:
    return 100 * (all_of_it - free) / all_of_it if all_of_it else 0.0
