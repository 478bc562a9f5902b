"""How the node is just now, for admission: one look at the index, the disk and this process."""

from __future__ import annotations

import resource
from pathlib import Path

from appliance.amounts import of_disk
from appliance.disk import space
from appliance.disk.layout import Layout
from appliance.errors import IndexUnavailable
from appliance.index import arrivals, job_list, lanes
from appliance.index.database import Database
from appliance.receiver.admission import Load
from appliance.settings import Receiver

_DESCRIPTORS = Path("/proc/self/fd")
_MOST_DESCRIPTORS = 0.8  # of the limit; an association that is open needs a few to store


def measure(db: Database, layout: Layout, rules: Receiver) -> Load:
    """Look now; an index or a volume that cannot be asked is a hindrance, never an error."""
    try:
        with db.read() as connection:
            waiting = job_list.waiting_by_stream(connection)
            switched_off = frozenset(lanes.switched_off(connection))
        is_open = arrivals.count_open_associations(db)
    except IndexUnavailable as error:
        return Load(hindrance=f"The index cannot be used: {error}")
    return Load(is_open, waiting, switched_off, _hindrance(layout, rules))


def _hindrance(layout: Layout, rules: Receiver) -> str:
    if why := _short_of_descriptors():
        return why
    if why := space.degraded(layout):
        return f"The data volume is not trusted until the node is restarted: {why}"
    try:
        volume = space.measure(layout.root)
    except OSError as error:
        return f"The data volume cannot be measured: {error.strerror}."
    if not space.is_short(volume, rules.reserve_gb, rules.reserve_percent):
        return ""
    kept = space.reserve_bytes(volume, rules.reserve_gb, rules.reserve_percent)
    return (
        f"The data volume has {of_disk(volume.free_bytes)} and {volume.free_inodes} inodes free; "
        f"{of_disk(kept)} are kept in reserve (receiver.reserve_gb, receiver.reserve_percent)."
    )


def _short_of_descriptors() -> str:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_open = sum(1 for _ in _DESCRIPTORS.iterdir())
    if most == resource.RLIM_INFINITY or is_open < most * _MOST_DESCRIPTORS:
        return ""
    return f"{is_open} files and connections are open in a receiving process that may have {most}."
