"""The rows of what the direct road answered: written in batches by one thread of a process.

A row is at most 100 ms behind its answer while the index answers.  While it does not,
rows are kept and tried again: nothing is forgotten, since each file keeps its name in
incoming/ until its row is committed, and a crash leaves it to adoption.  Receivers wait
(`wait_for_room`) when too many rows are behind, and refuse when they are so for long.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from appliance import logs
from appliance.dicom.header import Header
from appliance.disk import behind
from appliance.disk.commit import Commit
from appliance.disk.layout import Layout
from appliance.errors import IndexUnavailable
from appliance.index.arrivals import Association
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.intake.arriving import Arriving
from appliance.intake.digests import Digests
from appliance.intake.endings import Ended
from appliance.intake.rows import Rows, is_exhausted
from appliance.intake.tally import Tally
from appliance.settings import Receiver

# With the time that a transaction takes they stay within 100 ms.
_GATHER_SECONDS = 0.05
_BATCH = 200
_MOST_BEHIND = 2000
_LONGEST_BEHIND_SECONDS = 30.0
_AGAIN_SECONDS = 0.5
_IDLE_SECONDS = 5.0
_NOTE_SECONDS = 1.0
_LOOK_SECONDS = 0.01
_CLOSE_SECONDS = 10.0
T = TypeVar("T")


class Writer:
    """The one writer of a receiving process; `add`, `opened` and `ended` only queue."""

    def __init__(self, db: Database, layout: Layout, rules: Callable[[], Receiver]) -> None:
        self._layout = layout
        self._digests = Digests(db, layout)
        self._work = Rows(db, layout, rules, self._digests)
        self._commit: Commit | None = None
        # Any thread puts something there, and a deque needs no lock for that.
        self._opened: deque[Association] = deque()
        self._rows: deque[Arriving] = deque()
        self._ended: deque[Ended] = deque()
        self._wake, self._full = threading.Event(), threading.Event()
        self._is_closing = False
        self._noted_at = 0.0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Begin to write; after the fork."""
        self._thread.start()
        self._digests.start()

    def opened(self, association: Association) -> None:
        """Note that an association was accepted; its row stands before those of its instances."""
        self._opened.append(association)
        self._wake.set()

    def add(self, one: Arriving) -> None:
        """Take an instance that is named, and durable where that is promised; its row follows."""
        self._rows.append(one)
        self._digests.note_bytes()
        if not self._wake.is_set():
            self._wake.set()
        elif len(self._rows) >= _BATCH:
            self._full.set()

    def ended(self, id: str, ending: Ending, now: datetime, tally: Tally) -> None:
        """Note how an association ended; written behind the rows of all its instances."""
        self._ended.append(Ended(id, ending, now, tally))
        self._wake.set()

    def wait_for_room(self) -> None:
        """Wait while too many rows are behind: the peer then waits for its answer.

        Raises IndexUnavailable when rows are behind for so long that the index must be away.
        """
        self._note()
        while (waits := self.seconds_behind) or self.rows_behind:
            if waits > _LONGEST_BEHIND_SECONDS:
                raise IndexUnavailable(
                    f"the index has taken nothing for {_LONGEST_BEHIND_SECONDS:g} s",
                    remedy="brookbox doctor",
                )
            if self.rows_behind <= _MOST_BEHIND:
                return
            time.sleep(_LOOK_SECONDS)
            self._note()

    @property
    def rows_behind(self) -> int:
        """Count the instances that were answered and have no row yet."""
        work = self._work
        return len(self._rows) + len(work.batch) + len(work.alone) + len(work.later)

    @property
    def seconds_behind(self) -> float:
        """Say for how long the oldest of them waits for the index, and not for an erasure."""
        for waiting in (self._work.alone, self._work.batch, self._rows):
            try:
                if waiting:
                    return time.monotonic() - waiting[0].since
            except IndexError:  # the writer has just taken it
                continue
        return 0.0

    @property
    def is_done(self) -> bool:
        """Say whether nothing waits to be written."""
        return self._work.are_done and not (self._rows or self._opened or self._ended)

    def unname(self, header: Header, path: Path) -> None:
        """Take the name in studies/ of a file back, unless a row speaks of it.

        Raises IndexUnavailable when nobody can tell.
        """
        self._work.unname(header, path)

    def tells_of(self, commit: Commit) -> None:
        """Have the note of this process say how its instances are made durable."""
        self._commit = commit

    def close(self) -> None:
        """Write what is queued, as far as the index takes it; the rest waits for adoption."""
        self._is_closing = True
        self._wake.set()
        self._full.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)
        self._digests.close()
        if self.rows_behind:
            logs.get().warning("rows are left to adoption", rows=self.rows_behind)
        behind.remove(self._layout)

    def _run(self) -> None:
        while not (self._is_closing and self.is_done):
            self._gather()
            try:
                # In this order: what ended has all its instances in `rows`, and those have
                # their associations in `opened`.
                ended, rows, opened = (
                    _taken(self._ended), _taken(self._rows), _taken(self._opened),
                )  # fmt: skip
                self._work.take(opened, rows, ended)
                self._work.write()
            except IndexUnavailable as error:
                if self._is_closing:
                    break
                logs.get().warning("rows wait for the index", reason=str(error))
                time.sleep(_AGAIN_SECONDS)
            except Exception as error:  # noqa: BLE001
                if is_exhausted(error):
                    logs.get().warning("rows wait for descriptors or memory", reason=str(error))
                    time.sleep(_AGAIN_SECONDS)
                else:
                    logs.get().exception("rows not written")
                    self._work.step_aside()
            self._note()

    def _gather(self) -> None:
        """Sleep until something is queued, and a little longer for more of it."""
        self._wake.wait(_IDLE_SECONDS if self._work.are_done else _AGAIN_SECONDS)
        if not self._is_closing:
            self._full.wait(_GATHER_SECONDS)
        self._wake.clear()
        self._full.clear()

    def _note(self) -> None:
        """Say now and then how far rows are behind, also while the writer's thread waits."""
        now = time.monotonic()
        if now - self._noted_at < _NOTE_SECONDS:
            return
        self._noted_at = now
        says = self._commit.says if self._commit is not None else ""
        behind.note(self._layout, self.rows_behind, self.seconds_behind, says)


def _taken(queue: deque[T]) -> list[T]:
    """Take all that is queued now; what comes meanwhile stays."""
    return [queue.popleft() for _ in range(len(queue))]
