"""Answer one C-STORE of the stock path: the data set goes undecoded to intake.

Its outcome becomes the status; success is answered only when `Intake.keep` returned.
This is the boundary of the process: an error that nobody foresaw is logged here once,
and answered 0x0110.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydicom.dataset import Dataset

from appliance import logs
from appliance.dicom import marks, statuses
from appliance.disk import space
from appliance.disk.layout import Layout
from appliance.errors import DiskError, IndexUnavailable, InstanceRefused, NoSpace, SyncFailed
from appliance.intake.take import Intake
from appliance.intake.way import Answer
from appliance.receiver.associations import Associations, OpenAssociation
from appliance.receiver.pulse import WAITING, Watch
from appliance.settings import Settings

TOO_LONG = Answer(statuses.OUT_OF_RESOURCES, "longer than receiver.max_instance_mb")
_LONGEST_COMMENT = 64  # (0000,0902) Error Comment is LO


class Storing:
    """The handler of EVT_C_STORE."""

    def __init__(
        self,
        intake: Intake,
        associations: Associations,
        layout: Layout,
        settings: Callable[[], Settings],
        watch: Watch,
    ) -> None:
        self._intake = intake
        self._associations = associations
        self._layout = layout
        self._settings = settings
        self._watch = watch

    def handle(self, event: Any) -> int | Dataset:
        """Keep the instance of a C-STORE request; give the status for its response."""
        one = self._associations.find(event.assoc)
        if one is None:  # it was aborted while its last message waited
            return statuses.PROCESSING_FAILURE
        length, one.message_bytes, one.step.since = one.message_bytes, 0, one.last_bytes_at
        with logs.bound(association=one.id), self._watch.step(length):
            answer = answered(lambda: self._keep(event, one), one.id)
        one.last_bytes_at = time.monotonic()
        one.step.since = WAITING
        one.tally.note_answer(answer.status)
        return _response(answer) if answer.comment else answer.status

    def _keep(self, event: Any, one: OpenAssociation) -> Answer:
        try:
            return self._take(event, one)
        except InstanceRefused as error:
            return Answer(error.status, str(error))
        except SyncFailed as error:
            space.mark_degraded(self._layout, str(error))
            logs.get().error("volume degraded", reason=str(error), remedy=error.remedy)
            return Answer(statuses.OUT_OF_RESOURCES, str(error))
        except (DiskError, IndexUnavailable) as error:
            logs.get().error("instance not kept", reason=str(error), remedy=error.remedy)
            return Answer(statuses.OUT_OF_RESOURCES, str(error))

    def _take(self, event: Any, one: OpenAssociation) -> Answer:
        request = event.request
        _, abstract_syntax, transfer_syntax = event.context
        most = self._settings().receiver.max_instance_mb * 1_000_000
        with request.DataSet.getbuffer() as data_set:
            if len(data_set) > most:
                return TOO_LONG
            self._look_for_room()
            kept = self._intake.keep(
                data_set,
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(transfer_syntax),
                abstract_syntax_uid=str(abstract_syntax),
                sender=one.sender,
                level=one.level,
                now=datetime.now(UTC),
            )
        one.tally.note_kept(kept)
        logs.get().debug(
            "instance kept", study=kept.study_uid, instance=kept.sop_instance_uid, note=kept.note
        )
        return _answer(kept.marks, self._settings().receiver.warn_of_marks)

    def _look_for_room(self) -> None:
        """Raise NoSpace when nothing may be written any more, though it was admitted."""
        if why := space.degraded(self._layout):
            raise NoSpace(
                f"The data volume is not trusted: {why}",
                remedy="look at dmesg and at the disk, then restart the node",
            )
        rules = self._settings().receiver
        volume = space.measure(self._layout.root)
        if space.is_short(volume, rules.reserve_gb / 2, rules.reserve_percent / 2):
            raise NoSpace(
                "The data volume is nearly full.",
                remedy="make room on it; brookbox status shows what holds the space",
            )


def answered(keep: Callable[[], Answer], association_id: str) -> Answer:
    """Keep an instance of either path; what nobody foresaw is a processing failure."""
    try:
        return keep()
    except Exception:  # noqa: BLE001
        logs.get().exception("instance not kept", association=association_id)
        return Answer(statuses.PROCESSING_FAILURE, "unexpected error, see the node's log")


def _answer(found: tuple[str, ...], warns: bool) -> Answer:
    """Give the status of an instance that is kept, and what is said beside it."""
    words = "; ".join(marks.in_words(found))
    if marks.COERCED in found:
        return Answer(statuses.COERCED, words)
    return Answer(statuses.MARKED, words) if found and warns else Answer(statuses.SUCCESS)


def _response(answer: Answer) -> Dataset:
    """Give the elements of the C-STORE response (PS3.7 9.3.1.2)."""
    response = Dataset()
    response.Status = answer.status
    response.ErrorComment = answer.comment.encode("ascii", "replace").decode()[:_LONGEST_COMMENT]
    return response
