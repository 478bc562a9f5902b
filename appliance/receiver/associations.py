"""The associations that are open in this process, and their rows in the index.

A row is opened when the association is admitted and closed with how it ended; one
thread beats the rows whose peers sent bytes, so that a long C-STORE does not look
silent.  What an association brought is told in one event at its end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appliance import bells, ids, logs
from appliance.amounts import count
from appliance.disk.layout import Layout
from appliance.errors import IndexUnavailable
from appliance.index import arrivals, events
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.intake.take import Sender

_MOST_STUDIES = 100


@dataclass(slots=True)
class OpenAssociation:
    """One association and what came over it; `assoc` is pynetdicom's.

    `message_bytes` counts the message that is coming in.
    """

    assoc: Any
    sender: Sender
    level: str | None
    is_recorded: bool  # it has a row: one for Verification only has none
    instances: int = 0
    failures: int = 0
    returned: int = 0
    held: int = 0
    conflicts: int = 0
    coerced: int = 0
    message_bytes: int = 0
    last_bytes_at: float = field(default_factory=time.monotonic)
    has_new_bytes: bool = False
    is_storing: bool = False
    is_aborted_by_peer: bool = False
    is_aborted_by_us: bool = False
    study_uids: dict[str, None] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its name in index, log and events."""
        return self.sender.association_id

    @property
    def silent_seconds(self) -> float:
        """Say for how long its peer has sent nothing while nothing was done for it."""
        return 0.0 if self.is_storing else time.monotonic() - self.last_bytes_at

    def note_bytes(self, count: int) -> None:
        """Count bytes of the message that is coming in."""
        self.message_bytes += count
        self.last_bytes_at = time.monotonic()
        self.has_new_bytes = True

    def note_study(self, study_uid: str) -> None:
        """Remember a study for the event, as far as an event may grow."""
        if len(self.study_uids) < _MOST_STUDIES:
            self.study_uids[study_uid] = None


class Associations:
    """All that are open in this process."""

    def __init__(self, db: Database, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._process = str(ids.this_process())
        self._lock = threading.Lock()
        self._open: dict[Any, OpenAssociation] = {}
        self._closing = 0
        self._unwritten: list[tuple[OpenAssociation, Ending, datetime]] = []

    def open(self, one: OpenAssociation, now: datetime) -> None:
        """Note an admitted association; IndexUnavailable when its row cannot be written."""
        sender = one.sender
        if one.is_recorded:
            arrivals.open_association(
                self._db,
                arrivals.Association(
                    id=one.id,
                    called_ae_title=sender.called_ae_title,
                    calling_ae_title=sender.calling_ae_title,
                    address=sender.address,
                    process=self._process,
                    opened_at=now,
                ),
            )
        with self._lock:
            self._open[one.assoc] = one

    def find(self, assoc: Any) -> OpenAssociation | None:
        """Look an open association up; None when it was not admitted, or is closed."""
        return self._open.get(assoc)

    def all(self) -> Sequence[OpenAssociation]:
        """List what is open now."""
        with self._lock:
            return list(self._open.values())

    @property
    def are_settled(self) -> bool:
        """Say whether none is open, and none's end is being written just now."""
        with self._lock:
            return not self._open and not self._closing

    def close(self, assoc: Any, ending: Ending, now: datetime) -> None:
        """Note how an association ended; what is closed already stays as it is."""
        with self._lock:
            one = self._open.pop(assoc, None)
            if one is None or not one.is_recorded:
                return
            self._closing += 1
        try:
            self._write_end(one, ending, now)
        finally:
            with self._lock:
                self._closing -= 1

    def close_dead(self, now: datetime) -> None:
        """Close as lost what ended without a word: its thread is gone."""
        for one in self.all():
            if not one.assoc.is_alive():
                self.close(one.assoc, Ending.LOST, now)

    def beat(self, now: datetime) -> None:
        """Tell the index which associations were active, and what it could not be told before."""
        waiting, self._unwritten = self._unwritten, []
        for one, ending, at in waiting:
            self._write_end(one, ending, at)
        active = [one for one in self.all() if one.is_recorded and one.has_new_bytes]
        for one in active:
            one.has_new_bytes = False
        if active:
            arrivals.beat_associations(self._db, [one.id for one in active], now)

    def _write_end(self, one: OpenAssociation, ending: Ending, now: datetime) -> None:
        try:
            arrivals.close_association(
                self._db, one.id, ending, now, instances=one.instances, failures=one.failures
            )
            self._append_event(one, ending, now)
        except IndexUnavailable as error:
            logs.get().warning("association not closed yet", reason=str(error), association=one.id)
            self._unwritten.append((one, ending, now))
            return
        bells.ring(self._layout.run, "dispatcher")
        logs.get().info(
            "association closed",
            association=one.id,
            ending=str(ending),
            instances=one.instances,
            failures=one.failures,
            returned=one.returned,
        )

    def _append_event(self, one: OpenAssociation, ending: Ending, now: datetime) -> None:
        if not one.instances and not one.failures:
            return
        sender, studies = one.sender, list(one.study_uids)
        with self._db.write() as connection:
            events.append(
                connection,
                "association closed",
                _story(one, ending),
                now,
                who=sender.calling_ae_title,
                study_uid=studies[0] if len(studies) == 1 else "",
                association=one.id,
                called=sender.called_ae_title,
                address=sender.address,
                studies=studies,
                held=one.held,
                conflicts=one.conflicts,
            )


def _story(one: OpenAssociation, ending: Ending) -> str:
    sender = one.sender
    instances = count(one.instances, "instance")
    told = (
        f"{sender.calling_ae_title} ({sender.address}) sent {instances} "
        f"to {sender.called_ae_title}; the association was {ending}."
    )
    if one.failures:
        told += f" {one.failures} more {'was' if one.failures == 1 else 'were'} not kept."
    if one.held:
        told += f" {_of_them(one.held)} held in quarantine, for a person to judge."
    if one.conflicts:
        told += f" {_of_them(one.conflicts)} in quarantine: other content is kept under that UID."
    if one.coerced:
        told += f" {one.coerced} of them lacked a UID, which the node made."
    if one.returned:
        told += f" {_of_them(one.returned, 'a result', 'results')} that came back: no new job."
    return told


def _of_them(number: int, one: str = "", several: str = "") -> str:
    """Say that so many of them are something: 1 of them is, 2 of them are."""
    said = f"1 of them is {one}" if number == 1 else f"{number} of them are {several}"
    return said.rstrip()
