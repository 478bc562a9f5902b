"""One instance on the direct road, from its first byte to its answer.

The bytes go into incoming/ as they come, the header is read from the first of them
while the rest arrives.  `keep` links the file into studies/, makes it durable as
`receiver.durability` says, hands it to the writer and answers: file first, answer
second, row at most 100 ms later.  Whatever is unusual (a data set that is refused, or
whose fate must be known before the answer) goes the slow road of `intake.take`, from
the file that is written already.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import logs
from appliance.dicom import marks, statuses
from appliance.dicom.header import Header, opened
from appliance.dicom.walker import Start, header_of_start, read_start, read_whole
from appliance.disk.folders import Folder
from appliance.disk.part_file import PartFile
from appliance.disk.sync import plain_error, plain_errors, sync_data, sync_file
from appliance.errors import (
    BrookboxError,
    DiskError,
    IndexUnavailable,
    InstanceRefused,
    SyncFailed,
)
from appliance.intake.arriving import Arriving

if TYPE_CHECKING:
    from appliance.intake.way import Way

# A beginning that comes in small pieces is put together up to this for the walker.
_MOST_JOINED = 1 << 20
_LONGEST_COMMENT = 64  # (0000,0902) Error Comment is LO


@dataclass(frozen=True, slots=True)
class Answer:
    """The Status (0000,0900) and Error Comment (0000,0902) of a C-STORE response."""

    status: int
    comment: str = ""


_SUCCESS = Answer(statuses.SUCCESS)


class Draft:
    """One instance that is coming in; an error is kept until `keep` answers it."""

    __slots__ = (
        "_error", "_file", "_head", "_refusal", "_sop_class_uid", "_sop_uid", "_start", "_way",
    )  # fmt: skip

    def __init__(self, way: Way, sop_class_uid: str, sop_instance_uid: str) -> None:
        self._way = way
        self._sop_class_uid = sop_class_uid
        self._sop_uid = sop_instance_uid
        self._head = way.head(sop_class_uid, sop_instance_uid)
        self._start: Start | None = None
        self._error: BrookboxError | None = None
        self._refusal: InstanceRefused | None = None  # what a walk to the end has found
        self._file: PartFile | None = None
        try:
            way.ways.room.check()
            self._file = way.new_file()
        except OSError as error:
            self._error = plain_error("An instance could not be written", error)
        except DiskError as error:
            self._error = error

    def write(self, views: Sequence[memoryview]) -> None:
        """Write the next pieces of the data set, in order; none is kept.  Never raises."""
        self._write(views, is_whole=False)

    def keep(self, views: Sequence[memoryview]) -> Answer:
        """Write the last pieces, keep the instance and give its answer.

        Once it is 0x0000 or a warning the instance is durable, as far as
        `receiver.durability` promises, and its row follows.
        """
        self._write(views, is_whole=True)
        try:
            if self._error is not None:
                raise self._error
            return self._keep()
        except InstanceRefused as error:
            return _answer(error.status, str(error))
        except (DiskError, IndexUnavailable) as error:
            if isinstance(error, SyncFailed):
                self._way.ways.room.distrust(str(error))
                logs.get().error("volume degraded", reason=str(error), remedy=error.remedy)
            else:
                logs.get().error("instance not kept", reason=str(error), remedy=error.remedy)
            return _answer(statuses.OUT_OF_RESOURCES, str(error))
        finally:
            self.drop()

    def drop(self) -> None:
        """Leave nothing of it; nothing happens once it is kept."""
        if self._file is not None:
            self._file.drop()
            self._file = None

    def _write(self, views: Sequence[memoryview], *, is_whole: bool) -> None:
        if self._file is None or not (views or is_whole):
            return
        is_first = self._file.size_bytes == 0  # nothing yet, not even what stands before it
        try:
            self._file.write([self._head, *views] if is_first else views)
        except OSError as error:
            self._error = plain_error("An instance could not be written", error)
            self.drop()
            return
        if is_first and views:
            self._start = self._read_start(views, is_whole)

    def _read_start(self, views: Sequence[memoryview], is_whole: bool) -> Start | None:
        syntax, familiar = self._way.transfer_syntax_uid, self._way.familiar
        start = read_start(views[0], syntax, is_whole and len(views) == 1, familiar)
        if start is not None or len(views) == 1:
            return start
        joined = b"".join(views)
        is_all = is_whole and len(joined) <= _MOST_JOINED
        with memoryview(joined) as first:
            return read_start(first[:_MOST_JOINED], syntax, is_all, familiar)

    # -- keeping it -----------------------------------------------------------------------------

    def _keep(self) -> Answer:
        way = self._way
        ways = way.ways
        assert self._file is not None, "a draft without an error has its file"
        header = self._header(self._file)
        rules = ways.rules()
        if header is None or rules.on_conflict == "refuse":
            return self._keep_slowly(self._file)
        ways.writer.wait_for_room()
        now, since = datetime.now(UTC), time.monotonic()
        folder = self._name_durably(self._file, header, rules.durability == "committed")
        file, self._file = self._file, None
        file.close()
        path = f"{ways.incoming.folder}/{file.name}"
        ways.writer.add(Arriving(way.origin, header, path, file.size_bytes, folder, now, since))
        way.origin.tally.note_study(header.study_uid)
        return _answer_of(header.marks, warns=rules.warn_of_marks)

    def _header(self, file: PartFile) -> Header | None:
        """Read the header and compare it with the request; None when it cannot be taken so."""
        way, size = self._way, file.size_bytes - len(self._head)
        header = None
        if self._start is not None:
            header = header_of_start(self._start, size, way.transfer_syntax_uid)
        if header is None:
            header = self._read_whole(file)
        if header is None or self._sop_uid != header.sop_instance_uid:
            return None
        agreed = way.abstract_syntax_uid or header.sop_class_uid
        return header if self._sop_class_uid == header.sop_class_uid == agreed else None

    def _read_whole(self, file: PartFile) -> Header | None:
        with opened(self._path(file)) as view, view[len(self._head) :] as data_set:
            if len(data_set) < 8:
                return None
            try:
                return read_whole(data_set, self._way.transfer_syntax_uid)
            except InstanceRefused as error:
                self._refusal = error
                return None

    def _name_durably(self, file: PartFile, header: Header, is_committed: bool) -> Folder | None:
        """Give it its name in studies/, or make it whole in incoming/ when that is taken (None)."""
        ways, incoming = self._way.ways, self._way.ways.incoming.descriptor
        folder = self._link(file, header)
        try:
            if folder is not None:
                if is_committed:
                    ways.commit.file(file.descriptor, folder, incoming)
                return folder
            if is_committed:
                sync_data(file.descriptor)
            file.become_whole()
            if is_committed:
                sync_file(incoming)
            return None
        except DiskError:
            if folder is not None:
                self._take_back(file, header)
            raise
        except OSError as error:
            raise plain_error("An instance could not be named", error) from error

    def _link(self, file: PartFile, header: Header) -> Folder | None:
        """Link it into its series folder; None when the name is taken."""
        folders = self._way.ways.folders
        name = f"{header.sop_instance_uid}.dcm"
        folder = folders.find(header.study_uid, header.series_uid)
        try:
            try:
                return folder if file.link(name, folder.descriptor) else None
            except FileNotFoundError:  # the folder was removed since it was opened
                folders.forget(folder)
                folder = folders.find(header.study_uid, header.series_uid)
                return folder if file.link(name, folder.descriptor) else None
        except OSError as error:
            raise plain_error("An instance could not be named", error) from error

    def _take_back(self, file: PartFile, header: Header) -> None:
        """Take a name back whose instance is not durable, unless somebody registered it.

        While the index is away nobody can tell: both names stay then, for adoption.
        """
        path = self._path(file)
        try:
            self._way.ways.writer.unname(header, path)
        except (IndexUnavailable, OSError):
            self._file = None
            file.close()
            self._way.ways.incoming.leave(path)

    def _keep_slowly(self, file: PartFile) -> Answer:
        """Have the index decide before the answer.  Raises what `Intake.keep` does."""
        way = self._way
        ways, sender = way.ways, way.origin.sender
        with plain_errors("An instance could not be written"):
            sync_data(file.descriptor)
            file.become_whole()
            sync_file(ways.incoming.descriptor)
        self._file = None
        file.close()
        kept = ways.slow.keep_written(
            ways.incoming.folder / file.name,
            way.meta(self._sop_class_uid, self._sop_uid),
            len(self._head),
            sender=sender,
            level=way.origin.level,
            now=datetime.now(UTC),
            abstract_syntax_uid=way.abstract_syntax_uid,
            refusal=self._refusal,
        )
        way.origin.tally.note_kept(kept)
        return _answer_of(kept.marks, warns=ways.rules().warn_of_marks)

    def _path(self, file: PartFile) -> Path:
        return self._way.ways.incoming.folder / file.name


def _answer_of(found: tuple[str, ...], *, warns: bool) -> Answer:
    """Give the answer for an instance that is kept, with these marks."""
    if not found:
        return _SUCCESS
    if marks.COERCED in found:
        return _answer(statuses.COERCED, "; ".join(marks.in_words(found)))
    return _answer(statuses.MARKED, "; ".join(marks.in_words(found))) if warns else _SUCCESS


def _answer(status: int, why: str) -> Answer:
    return Answer(status, why.encode("ascii", "replace").decode()[:_LONGEST_COMMENT])
