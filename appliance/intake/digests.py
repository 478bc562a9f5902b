"""Fill in the digests of what the direct road kept, while nobody sends.

A SHA-256 costs more than all else that is done for an image, so that its row has none at
first.  A thread of low priority in each receiving process makes up for it when no
association brings bytes; whoever needs one before computes it himself (`filled`).
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from appliance import logs
from appliance.disk.layout import Layout
from appliance.errors import CannotUnderstand, IndexUnavailable
from appliance.index import digests
from appliance.index.catalog import Instance
from appliance.index.database import Database

_QUIET_SECONDS = 1.0
_AT_ONCE = 50
_MOST_NOTED = 100_000
_NICE = 19


def filled(db: Database, layout: Layout, instances: Sequence[Instance]) -> list[Instance]:
    """Give instances with their digests; what is missing is computed, and noted in the index.

    One whose file cannot be read keeps "", which equals no digest.
    """
    found: dict[str, tuple[str, str]] = {}
    for one in instances:
        if not one.dataset_sha256 and (digest := digest_of(layout, one.path)):
            found[one.sop_instance_uid] = one.path, digest
    digests.fill_in(db, found)
    return [
        replace(one, dataset_sha256=found[one.sop_instance_uid][1])
        if one.sop_instance_uid in found
        else one
        for one in instances
    ]


def digest_of(layout: Layout, relative: str) -> str:
    """Compute the digest of a stored file's data set; "" when it cannot be read."""
    # When used: it brings pydicom, which the dispatcher mostly does without.
    from appliance.disk.studies import dataset_digest

    try:
        return dataset_digest(layout.root / relative)
    except (OSError, CannotUnderstand):
        return ""


def fill_missing(db: Database, layout: Layout) -> None:
    """Compute and note every digest that is missing."""
    after = ""
    while found := digests.missing(db, after, _AT_ONCE):
        _fill(db, layout, found)
        after = found[-1][0]


def _fill(db: Database, layout: Layout, missing: Sequence[tuple[str, str]]) -> None:
    """Compute and note the digests of these instances, given by UID and path."""
    found = {uid: (path, digest_of(layout, path)) for uid, path in missing}
    digests.fill_in(db, {uid: one for uid, one in found.items() if one[1]})


class Digests:
    """The thread of one process."""

    def __init__(self, db: Database, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._waiting: deque[str] = deque(maxlen=_MOST_NOTED)
        self._bytes_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="digests", daemon=True)

    def start(self) -> None:
        """Begin, in a thread that ends with the process."""
        self._thread.start()

    def note_bytes(self) -> None:
        """Note that an association brings bytes: the thread waits then."""
        self._bytes_at = time.monotonic()

    def add(self, sop_instance_uids: Iterable[str]) -> None:
        """Note instances whose rows were just made."""
        self._waiting.extend(sop_instance_uids)

    def close(self) -> None:
        """Stop soon; what is left is found by the next process."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_QUIET_SECONDS)

    def _run(self) -> None:
        with suppress(OSError):  # of this thread alone (Linux)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        has_looked = False
        while not self._stop.wait(0.0 if self._waiting else _QUIET_SECONDS):
            if time.monotonic() - self._bytes_at < _QUIET_SECONDS:
                self._stop.wait(_QUIET_SECONDS)
                continue
            try:
                if self._waiting:
                    self._fill(self._next())
                elif not has_looked:
                    has_looked = self._look_for_leftovers()
            except (IndexUnavailable, OSError) as error:  # such as: too many open files
                logs.get().info("digests wait", reason=str(error))
                self._stop.wait(_QUIET_SECONDS)

    def _next(self) -> list[str]:
        return [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]

    def _fill(self, sop_instance_uids: list[str]) -> None:
        _fill(self._db, self._layout, digests.still_missing(self._db, sop_instance_uids))

    def _look_for_leftovers(self) -> bool:
        """Note what processes before this one left without a digest; False while another looks."""
        descriptor = os.open(
            self._layout.run / "digests.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = digests.missing(self._db, "", _MOST_NOTED)
            for start in range(0, len(found), _AT_ONCE):
                while time.monotonic() - self._bytes_at < _QUIET_SECONDS:
                    if self._stop.wait(_QUIET_SECONDS):
                        return True
                if self._stop.is_set():
                    return True
                self._fill([uid for uid, _ in found[start : start + _AT_ONCE]])
            return len(found) < _MOST_NOTED
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
