"""What the writer's thread does with what was queued: rows in batches, then one by one.

Each step may fail when the index is away, and is called again: what was committed is out
of its list by then, what was not is still in it.  A file's name in incoming/ goes only
after the commit of its row.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from appliance import bells, logs
from appliance.dicom.header import Header
from appliance.disk import space
from appliance.disk.incoming import give_up
from appliance.disk.layout import Layout
from appliance.disk.studies import have_same_data_set
from appliance.errors import (
    CannotUnderstand,
    DiskError,
    InstanceRefused,
    NoSpace,
    StudyGoing,
    SyncFailed,
)
from appliance.index import arrivals
from appliance.index import batch as index_batch
from appliance.index.arrivals import Association
from appliance.index.batch import Place
from appliance.index.database import Database
from appliance.index.going import check_not_going
from appliance.intake import batch
from appliance.intake.arriving import Arriving
from appliance.intake.digests import Digests
from appliance.intake.endings import Ended, tell
from appliance.intake.filing import Filing
from appliance.intake.going import CameBack
from appliance.settings import Receiver

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


def is_exhausted(error: BaseException) -> bool:
    """Say whether an error is of what the process, or the machine, has no more of just now."""
    cause = error.__cause__ if isinstance(error, DiskError) else error
    is_short = isinstance(cause, OSError) and cause.errno in _EXHAUSTED
    return is_short or isinstance(error, MemoryError)


class Rows:
    """What is in the writer's hands, of one process."""

    def __init__(
        self, db: Database, layout: Layout, rules: Callable[[], Receiver], digests: Digests
    ) -> None:
        self._db = db
        self._layout = layout
        self._filing = Filing(db, layout, rules)
        self._came_back = CameBack(layout)
        self._digests = digests
        self._known: dict[str, Association] = {}  # not closed yet
        self._opening: list[Association] = []
        self._ending: list[Ended] = []
        self.batch: list[Arriving] = []
        self.alone: list[Arriving] = []  # filed one by one
        self.later: list[Arriving] = []  # their studies are being erased, or there is no room

    def take(
        self, opened: Iterable[Association], rows: Iterable[Arriving], ended: Iterable[Ended]
    ) -> None:
        """Take what was queued: every instance's association, every ended one's instances."""
        self._opening += opened
        self._known |= {one.id: one for one in self._opening}
        self.batch += rows
        self._ending += ended

    def write(self) -> None:
        """Write all of it, as far as the index takes it; IndexUnavailable."""
        if self.batch or self._opening:
            self._write_batch()
        if self.later:
            self._look_at_later()
        if len(self.alone) > 1:
            self._write_known()
        while self.alone:
            self._file(self.alone[0])
            del self.alone[0]
        self._write_ends()

    def step_aside(self) -> None:
        """Go on after an error that nobody foresaw: one by one, then without the one it hits."""
        if self.batch:
            self.alone += self.batch
            self.batch = []
        elif self._opening:
            self._opening.clear()
        elif self.alone:
            give_up(self._layout.incoming, Path(self.alone.pop(0).file))
        elif self._ending:
            self._ending.pop(0)

    def unname(self, header: Header, path: Path) -> None:
        """Take the name in studies/ of a file back, unless a row speaks of it."""
        self._filing.unname(header, path)

    @property
    def are_done(self) -> bool:
        """Say whether nothing waits."""
        return not (self.batch or self.alone or self.later or self._ending or self._opening)

    def _write_batch(self) -> None:
        with self._db.write() as connection:
            arrivals.open_associations(connection, self._opening)
            found = batch.file_clear(self._db, connection, self._came_back, self.batch)
        self._opening.clear()
        self.alone += found.others
        self.batch = []
        self._unlink(found.clear)
        self._digests.add(one.header.sop_instance_uid for one in found.clear)

    def _look_at_later(self) -> None:
        """Try those again whose study is not being erased: they are the first of a new one."""
        gone = {one.header.study_uid for one in self.later}
        with self._db.read() as connection:
            for study_uid in list(gone):
                with suppress(StudyGoing):
                    check_not_going(connection, study_uid, is_question=True)
                    continue
                gone.remove(study_uid)
        self.alone += [one for one in self.later if one.header.study_uid in gone]
        self.later = [one for one in self.later if one.header.study_uid not in gone]

    def _write_known(self) -> None:
        """Make the receptions of what is only sent again, in the same bytes, in one go."""
        same = self._same()
        if same:
            with self._db.write() as connection:
                filed = batch.file_known(self._db, connection, same)
            of = {id(one) for one in filed}
            self.alone = [one for one in self.alone if id(one) not in of]
            self._unlink(filed)

    def _same(self) -> list[tuple[Arriving, Place]]:
        """Find those that came in the bytes that are kept, and where these stand."""
        taken = [one for one in self.alone if one.folder is None]
        with self._db.read() as connection:
            uids = [one.header.sop_instance_uid for one in taken]
            places = index_batch.find_places(connection, uids)
        same = []
        for one in taken:
            place = places.get(one.header.sop_instance_uid)
            with suppress(OSError, CannotUnderstand):
                if place and have_same_data_set(self._layout.root / place.path, Path(one.file)):
                    same.append((one, place))
        return same

    def _file(self, one: Arriving) -> None:
        """File one alone; what cannot be filed just now waits for the next adoption."""
        tally = one.origin.tally
        try:
            kept = self._filing.file(one.arrived(), patience_seconds=0)
            tally.note_kept(kept)
        except (StudyGoing, NoSpace):
            self.later.append(one)
            return
        except InstanceRefused:  # its bytes are in quarantine
            tally.conflicts += 1
        except (DiskError, OSError) as error:
            if is_exhausted(error):
                raise
            if isinstance(error, SyncFailed):
                space.mark_degraded(self._layout, str(error))
            logs.get().error("an instance waits for adoption", reason=str(error))
            give_up(self._layout.incoming, Path(one.file))
            return
        self._unlink([one])

    def _unlink(self, filed: Sequence[Arriving]) -> None:
        """Take the names in incoming/ away, now that the rows are committed."""
        for one in filed:
            with suppress(OSError):
                os.unlink(one.file)  # noqa: PTH108 - a Path for each is dear
        if any(one.origin.level is not None for one in filed):
            bells.ring(self._layout.run, "dispatcher")

    def _write_ends(self) -> None:
        """Close the associations whose instances are all filed."""
        at_work = {one.origin.sender.association_id for one in self.later}
        ready = [one for one in self._ending if one.id not in at_work]
        ends = [(self._known[one.id], one) for one in ready if one.id in self._known]
        if ends:
            tell(self._db, ends)
            bells.ring(self._layout.run, "dispatcher")
        for one in ready:
            self._known.pop(one.id, None)
        self._ending = [one for one in self._ending if one.id in at_work]
