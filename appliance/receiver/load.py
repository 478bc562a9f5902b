"""How the node is just now, for admission: one look at the index, the disk and this process.

A look costs more than an association that stores one image, so what was seen a moment ago
counts still.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

from appliance.amounts import of_disk
from appliance.disk import space
from appliance.disk.layout import Layout
from appliance.errors import IndexUnavailable
from appliance.index import job_list, lanes
from appliance.index.database import Database
from appliance.receiver.admission import Load
from appliance.settings import Receiver

_SEEN_SECONDS = 1.0
_MOST_SECONDS_BEHIND = 30.0
_DESCRIPTORS = Path("/proc/self/fd")
_MOST_DESCRIPTORS = 0.8  # of the limit; an association that is open needs a few to store
_DESCRIPTORS_TO_WORK = 24  # files, folders, connections to the index; or a tenth of all


class Measured:
    """What was seen at most about a second ago; asked by many threads at once."""

    def __init__(self, look: Callable[[], Load]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._seen: Load | None = None
        self._seen_at = 0.0

    def now(self) -> Load:
        """Give the load; one thread looks again when it is time, others take what there is."""
        seen = self._seen
        is_old = time.monotonic() - self._seen_at > _SEEN_SECONDS
        if (seen is None or is_old) and self._lock.acquire(blocking=seen is None):
            try:
                seen = self._look()
                self._seen, self._seen_at = seen, time.monotonic()
            finally:
                self._lock.release()
        assert seen is not None, "the first one looked, or waited for who did"
        return seen

    def forget(self) -> None:
        """Look again the next time: the settings were read again."""
        self._seen_at = 0.0


def measure(db: Database, layout: Layout, rules: Receiver, seconds_behind: float = 0.0) -> Load:
    """Look now; an index or a volume that cannot be asked is a hindrance, never an error.

    `seconds_behind` is for how long the oldest row waits to be written.
    """
    try:
        with db.read() as connection:
            waiting = job_list.waiting_by_stream(connection)
            switched_off = frozenset(lanes.switched_off(connection))
    except IndexUnavailable as error:
        return Load(hindrance=f"The index cannot be used: {error}")
    if seconds_behind > _MOST_SECONDS_BEHIND:
        why = f"The index has taken nothing for {seconds_behind:.0f} s."
    else:
        why = _hindrance(layout, rules)
    return Load(waiting=waiting, switched_off=switched_off, hindrance=why)


def leaves_descriptors(descriptor: int) -> bool:
    """Say whether a new connection's descriptor leaves enough of them to work with.

    The kernel gives the lowest that is free, so that its number tells how many are open.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = min(_DESCRIPTORS_TO_WORK, most // 10)
    return most == resource.RLIM_INFINITY or descriptor < most - kept


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
    try:
        is_open = sum(1 for _ in _DESCRIPTORS.iterdir())
    except OSError:  # not one is left to count them with
        is_open = most
    if most == resource.RLIM_INFINITY or is_open < most * _MOST_DESCRIPTORS:
        return ""
    return f"{is_open} files and connections are open in a receiving process that may have {most}."
