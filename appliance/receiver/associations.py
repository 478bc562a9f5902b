"""The associations that are open in this process; their rows are the writer's.

Both paths note theirs here.  The main loop beats the rows whose peers sent bytes, so that a
long C-STORE does not look silent, and ends what must end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from appliance import ids, logs
from appliance.index import arrivals
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.intake.take import Sender
from appliance.intake.tally import Tally
from appliance.receiver.pulse import WAITING, Step
from appliance.receiver.shared_counts import Seat

_IDLE_SECONDS = 5.0


class Rows(Protocol):
    """Who writes the rows of associations: `intake.writer`."""

    def opened(self, association: arrivals.Association) -> None:
        """Write that one was accepted, soon."""

    def ended(self, id: str, ending: Ending, now: datetime, tally: Tally) -> None:
        """Write how one ended, after the rows of what it brought."""


@dataclass(slots=True, eq=False)
class OpenAssociation:
    """One association and what came over it.

    `end` aborts it from any thread and does not wait; `is_alive` says whether a thread still
    serves it.  `message_bytes` counts the message that is coming in, on the stock path.
    """

    sender: Sender
    level: str | None
    is_recorded: bool  # it has a row: one for Verification only has none
    end: Callable[[], None]
    is_alive: Callable[[], bool] = lambda: True
    step: Step = field(default_factory=Step)
    tally: Tally = field(default_factory=Tally)
    message_bytes: int = 0
    message_began_at: float = 0.0
    last_bytes_at: float = field(default_factory=time.monotonic)
    beaten_at: float = 0.0
    is_aborted_by_peer: bool = False
    is_aborted_by_us: bool = False

    @property
    def id(self) -> str:
        """Its name in index, log and events."""
        return self.sender.association_id

    @property
    def is_storing(self) -> bool:
        """Say whether something is done for its peer just now."""
        return self.step.since != WAITING

    @property
    def silent_seconds(self) -> float:
        """Say for how long its peer has sent nothing while nothing was done for it."""
        return 0.0 if self.is_storing else time.monotonic() - self.last_bytes_at

    def abort(self) -> None:
        """Abort it from our side."""
        self.is_aborted_by_us = True
        self.end()

    def note_bytes(self, count: int) -> None:
        """Count bytes of the message that is coming in, on the stock path."""
        self.last_bytes_at = time.monotonic()
        if not self.message_bytes:
            self.message_began_at = self.last_bytes_at
        self.message_bytes += count


class Associations:
    """All that are open in this process."""

    def __init__(self, db: Database, rows: Rows, seat: Seat) -> None:
        self._db = db
        self._rows = rows
        self._seat = seat
        self._process = str(ids.this_process())
        self._lock = threading.Lock()
        self._open: dict[Any, OpenAssociation] = {}

    def open(self, one: OpenAssociation, key: Any = None) -> None:
        """Note an admitted association, under itself or under what `find` is asked by.

        It is counted already, since it was admitted (`Judge.verdict`).
        """
        sender = one.sender
        if one.is_recorded:
            self._rows.opened(
                arrivals.Association(
                    id=one.id,
                    called_ae_title=sender.called_ae_title,
                    calling_ae_title=sender.calling_ae_title,
                    address=sender.address,
                    process=self._process,
                    opened_at=datetime.now(UTC),
                )
            )
            logs.get().info(
                "association accepted",
                association=one.id,
                called=sender.called_ae_title,
                calling=sender.calling_ae_title,
                address=sender.address,
            )
        with self._lock:
            self._open[one if key is None else key] = one

    def find(self, key: Any) -> OpenAssociation | None:
        """Look an open association up; None when it was not admitted, or is closed."""
        return self._open.get(key)

    def all(self) -> Sequence[OpenAssociation]:
        """List what is open now."""
        with self._lock:
            return list(self._open.values())

    def close(self, key: Any, ending: Ending) -> None:
        """Note how an association ended; what is closed already stays as it is."""
        with self._lock:
            one = self._open.pop(key, None)
        if one is None or not one.is_recorded:
            return
        self._seat.count_association(-1)
        self._rows.ended(one.id, ending, datetime.now(UTC), one.tally)
        logs.get().info(
            "association closed",
            association=one.id,
            ending=str(ending),
            instances=one.tally.instances,
            failures=one.tally.failures,
        )

    def close_dead(self) -> None:
        """Close as lost what ended without a word: its thread is gone."""
        with self._lock:
            dead = [key for key, one in self._open.items() if not one.is_alive()]
        for key in dead:
            self.close(key, Ending.LOST)

    def end_idle(self) -> bool:
        """Abort the one that has brought nothing for longest; False when each is of use.

        For when another wants in and there is no room: who only holds an association open
        keeps nobody out.
        """
        idle = [
            one
            for one in self.all()
            if one.is_recorded
            and not one.tally.instances
            and not one.is_aborted_by_us
            and one.silent_seconds > _IDLE_SECONDS
        ]
        if not idle:
            return False
        oldest = min(idle, key=lambda one: one.last_bytes_at)
        logs.get().warning(
            "association aborted", association=oldest.id, why="it brings nothing, others wait"
        )
        oldest.abort()
        return True

    def beat(self, now: datetime) -> None:
        """Tell the index which associations were active; IndexUnavailable when it is away."""
        recorded = [one for one in self.all() if one.is_recorded]
        active = [one for one in recorded if one.last_bytes_at > one.beaten_at]
        if active:
            beaten_at = time.monotonic()
            arrivals.beat_associations(self._db, [one.id for one in active], now)
            for one in active:
                one.beaten_at = beaten_at
