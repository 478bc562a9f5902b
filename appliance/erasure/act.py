"""The whole erasure: marked, renamed into trash/, rows deleted, bytes removed, index wiped.

The journal in trash/ is written first and removed last, so that what is killed at any
step is finished by whoever comes next: the housekeeper, or a person who asks again.
How far it came the index says: a study that is marked still has its rows, and an
erasure that has tombstones has none left.  Every step may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from appliance.amounts import count
from appliance.disk import overwrite, trash
from appliance.disk.layout import Layout, instance_path
from appliance.erasure import journal, key, leftovers
from appliance.erasure.journal import Journal
from appliance.erasure.leftovers import Found, Matcher
from appliance.erasure.reach import Beyond, beyond
from appliance.errors import ErasureError
from appliance.ids import new_id
from appliance.index import erased_rows, erasure, events, going, reached, tombstones, wiping
from appliance.index.database import Database
from appliance.index.erasure import Begun
from appliance.index.extent import Extent, Made, Subject, extent
from appliance.index.tombstones import Kind, Tombstone
from appliance.settings import Settings

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Preview:
    """What would go, what hinders it just now, and what it would not reach."""

    extent: Extent
    quarantine: tuple[str, ...]
    staying: tuple[str, ...]  # in quarantine, with UIDs of it, but not of it
    leftovers: int
    busy: tuple[str, ...]
    beyond: Beyond

    @property
    def is_nothing(self) -> bool:
        """Say whether nothing of it is here."""
        return self.extent.is_nothing and not self.quarantine and not self.leftovers


@dataclass(frozen=True, slots=True)
class Erased:
    """An erasure that has ended, and how much went."""

    id: str
    subject: Subject
    studies: int
    instances: int
    jobs: int
    quarantine: int
    staying: tuple[str, ...]  # in quarantine, with UIDs of it, but not of it
    leftovers: int
    log_places: int


class Erasing:
    """The erasures of one node; `is_alone` says that nothing else runs on its folder."""

    def __init__(self, settings: Settings, db: Database, *, is_alone: bool = False) -> None:
        self._settings = settings
        self._db = db
        self._layout = Layout(settings.data_root)
        self._is_alone = is_alone

    def preview(self, subject: Subject, now: datetime) -> Preview:
        """Say what an erasure would take; nothing is changed."""
        with self._db.read() as connection:
            found = extent(connection, subject)
            begun = Begun(
                found,
                tuple(reached.senders(connection, found)),
                tuple(reached.destinations(connection, found)),
            )
            busy = erasure.busy(connection, found)
            nobodys = reached.jobs_of_nobody(connection)
        matcher = _matcher(subject, found)
        in_quarantine = leftovers.in_quarantine(self._layout, matcher)
        return Preview(
            extent=found,
            quarantine=in_quarantine.goes,
            staying=in_quarantine.stays,
            leftovers=sum(1 for _ in leftovers.in_incoming(self._layout, matcher)),
            busy=tuple(busy),
            beyond=beyond(self._settings, begun, nobodys, subject.kind == "patient", now),
        )

    def erase(
        self, subject: Subject, who: str, now: datetime, patience_seconds: float = PATIENCE_SECONDS
    ) -> Erased | None:
        """Erase it; None when nothing of it is here any more, which another may have erased.

        Raises ErasureError while something of it goes on, or when another erasure does not
        end; IndexUnavailable and DiskError leave it to be finished.
        """
        with trash.held(self._layout, patience_seconds):
            self._finish_all(now)
            if self.preview(subject, now).is_nothing:
                return None
            mine = Journal(new_id(), subject, who, now)
            journal.write(self._layout, mine)
            try:
                return self._go_on(mine)
            except ErasureError:
                trash.end(self._layout, mine.id)
                raise

    def finish_all(self, now: datetime, patience_seconds: float = PATIENCE_SECONDS) -> list[Erased]:
        """Finish what was killed in the middle; ErasureError when another is at it."""
        with trash.held(self._layout, patience_seconds):
            return self._finish_all(now)

    def _finish_all(self, now: datetime) -> list[Erased]:
        trash.remove_stillborn(self._layout)
        done = []
        for id in trash.begun(self._layout):
            left = journal.read(self._layout, id)
            try:
                done.append(self._go_on(left))
            except ErasureError as error:
                # It was killed before anything had gone, and now cannot begin.
                trash.end(self._layout, id)
                self._tell_not_begun(left, str(error), now)
        with self._db.read() as connection:
            has_marks = going.are_any(connection)
        if has_marks:
            with self._db.write() as connection:
                going.let_go(connection)
        return done

    def _go_on(self, left: Journal) -> Erased:
        """Go on from wherever it stands."""
        if left.begun is None or not self._is_under_way(left.id, left.begun.extent):
            begun = erasure.begin(self._db, left.subject, left.at, whatever=self._is_alone)
            left = replace(left, begun=begun)
            journal.write(self._layout, left)
        assert left.begun is not None
        gone, in_incoming = left.begun.extent, 0
        if not self._has_no_rows(left.id):
            self._take_files(left.id, gone)
            # While the studies are marked: later it might be adopted, and be there again.
            matcher = _matcher(left.subject, gone)
            in_incoming += leftovers.remove_from_incoming(self._layout, matcher)
            self._erase_rows(left, left.begun)
        in_quarantine = self._remove_bytes(left, gone)
        places = self._overwrite(gone)
        wiping.wipe(self._db)
        # Others may have been at it still: what they wrote since goes now.
        erased_rows.erase_late_events(self._db, gone, left.id)
        places += self._overwrite(gone)
        self._remove_bytes(left, gone)
        trash.end(self._layout, left.id)
        return Erased(
            id=left.id,
            subject=left.subject,
            studies=len(gone.studies),
            instances=gone.instances,
            jobs=len(gone.jobs),
            quarantine=len(in_quarantine.goes),
            staying=in_quarantine.stays,
            leftovers=in_incoming,
            log_places=places,
        )

    def _is_under_way(self, id: str, gone: Extent) -> bool:
        """Say whether the index knows of it: not one that was put back from before it began."""
        if self._has_no_rows(id):
            return True
        with self._db.read() as connection:
            return erasure.are_going(connection, gone.study_uids) == gone.study_uids

    def _has_no_rows(self, id: str) -> bool:
        with self._db.read() as connection:
            return tombstones.are_of(connection, id)

    def _take_files(self, id: str, gone: Extent) -> None:
        """Rename the folders into trash/, while their studies are seen to be marked.

        Without the mark, the folder of that name is of a study that came anew.
        """
        layout = self._layout
        with self._db.write() as connection:
            for uid in erasure.are_going(connection, gone.study_uids):
                trash.take(layout, id, folder_of(layout, uid))
            for job_id in gone.jobs:
                trash.take(layout, id, layout.job(job_id).path)
            for job_id in gone.makers:
                trash.take(layout, id, layout.job(job_id).output)

    def _erase_rows(self, left: Journal, begun: Begun) -> None:
        def take_away(results: Sequence[Made]) -> None:
            for one in results:
                trash.take(self._layout, left.id, self._layout.root / one.path)

        gone = begun.extent
        sentence = (
            f"{left.who} had a {left.subject.kind} erased: {count(len(gone.studies), 'study')}, "
            f"{count(gone.instances, 'instance')}, {count(len(gone.jobs), 'job')}. "
            f"Erasure {left.id}."
        )
        facts: dict[str, object] = {
            "sent_to": {one.destination: one.instances for one in begun.destinations},
            "came_from": sorted({one.calling_ae_title for one in begun.senders}),
        }
        stones = self._stones(left, gone)
        erased_rows.erase(self._db, gone, stones, sentence, facts, take_away)

    def _stones(self, left: Journal, gone: Extent) -> list[Tombstone]:
        secret = key.made(self._layout)
        named: list[tuple[Kind, str]] = [("study", uid) for uid in gone.study_uids]
        # In quarantine a study's UID may be another patient's, too.
        named += [("whose", whose) for whose in _whose(left.subject, gone)]
        if left.subject.kind == "patient":
            named.insert(0, ("patient", left.subject.value))
        return [
            Tombstone(left.id, left.at, left.who, kind, tombstones.keyed_hash(secret, kind, value))
            for kind, value in named
        ]

    def _remove_bytes(self, left: Journal, gone: Extent) -> Found:
        """Remove what was renamed, and what is in quarantine; say what of the latter."""
        layout, id = self._layout, left.id
        matcher = _matcher(left.subject, gone)
        removed = leftovers.remove_from_quarantine(layout, matcher, before=id)
        for job_id in gone.jobs:
            for folder in layout.incoming.glob(f"job-{job_id}-*"):
                trash.take(layout, id, folder)
            # A worker that was still writing the record of its job has made the folder anew.
            trash.take(layout, id, layout.job(job_id).path)
        trash.remove_taken(layout, id)
        return removed

    def _overwrite(self, gone: Extent) -> int:
        """Write x over the UIDs in the logs, and in the papers of jobs that stay."""
        places = overwrite.overwrite_in_folder(self._layout.logs, gone.uids)
        for job_id in gone.makers:
            folder = self._layout.job(job_id).path
            if folder.is_dir():
                places += overwrite.overwrite_in_folder(folder, gone.uids)
        return places

    def _tell_not_begun(self, left: Journal, why: str, now: datetime) -> None:
        sentence = f"Erasure {left.id}, which was killed before it began, is given up: {why}."
        with self._db.write() as connection:
            events.append(connection, "erasure given up", sentence, now, who=left.who)


def _matcher(subject: Subject, gone: Extent) -> Matcher:
    return Matcher(subject, _patients(gone), gone.uids)


def _patients(gone: Extent) -> dict[str, str | None]:
    """Map each study that goes to its Patient ID; to None where nothing of it was kept any more."""
    return {
        one.study_uid: one.patient_id if one.patient_id or one.instances else None
        for one in gone.studies
    }


def _whose(subject: Subject, gone: Extent) -> list[str]:
    """Name studies with their Patient IDs, but for the one that the subject itself names."""
    is_patient = subject.kind == "patient"
    return [
        tombstones.whose(uid, patient)
        for uid, patient in sorted(_patients(gone).items())
        if patient != "" and not (is_patient and patient == subject.value)
    ]


def folder_of(layout: Layout, study_uid: str) -> Path:
    """Name the folder of a study's files."""
    return (layout.root / instance_path(study_uid, "0", "0")).parent.parent


def erasures_of(db: Database, layout: Layout, kind: Kind, value: str) -> list[Tombstone]:
    """List the erasures of a patient or a study; ErasureError when nobody can know any more."""
    secret = key.read(layout)
    with db.read() as connection:
        if secret is not None:
            return tombstones.found(connection, [tombstones.keyed_hash(secret, kind, value)])
        if tombstones.everyone(connection):
            raise ErasureError(
                f"{layout.erasure_key} is not here, without which no tombstone can be read",
                remedy="put it back from where it was kept",
            )
    return []
