"""Answer one C-STORE: the data set goes undecoded to intake, its outcome becomes a status.

Success is answered only when `Intake.keep` returned.  This is the boundary of the
process: an error that nobody foresaw is logged here once, and answered 0x0110.
"""

from __future__ import annotations

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
from appliance.receiver.associations import Associations, OpenAssociation
from appliance.receiver.pulse import Watch
from appliance.settings import Settings

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
        length, one.message_bytes, one.is_storing = one.message_bytes, 0, True
        with logs.bound(association=one.id), self._watch.step(length):
            try:
                status, why = self._keep(event, one)
            except Exception:  # noqa: BLE001
                logs.get().exception("instance not kept")
                status, why = statuses.PROCESSING_FAILURE, "unexpected error, see the node's log"
        one.note_bytes(0)
        one.is_storing = False
        if statuses.is_success(status):
            one.instances += 1
        else:
            one.failures += 1
        return _response(status, why) if why else status

    def _keep(self, event: Any, one: OpenAssociation) -> tuple[int, str]:
        try:
            return self._take(event, one)
        except InstanceRefused as error:
            return error.status, str(error)
        except SyncFailed as error:
            space.mark_degraded(self._layout, str(error))
            logs.get().error("volume degraded", reason=str(error), remedy=error.remedy)
            return statuses.OUT_OF_RESOURCES, str(error)
        except (DiskError, IndexUnavailable) as error:
            logs.get().error("instance not kept", reason=str(error), remedy=error.remedy)
            return statuses.OUT_OF_RESOURCES, str(error)

    def _take(self, event: Any, one: OpenAssociation) -> tuple[int, str]:
        request = event.request
        _, abstract_syntax, transfer_syntax = event.context
        most = self._settings().receiver.max_instance_mb * 1_000_000
        with request.DataSet.getbuffer() as data_set:
            if len(data_set) > most:
                return statuses.OUT_OF_RESOURCES, "longer than receiver.max_instance_mb"
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
        one.returned += kept.is_returned
        one.held += kept.is_held
        one.conflicts += kept.is_conflict
        one.coerced += marks.COERCED in kept.marks
        one.note_study(kept.study_uid)
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


def _answer(found: tuple[str, ...], warns: bool) -> tuple[int, str]:
    """Give the status of an instance that is kept, and what is said beside it."""
    words = "; ".join(marks.in_words(found))
    if marks.COERCED in found:
        return statuses.COERCED, words
    return (statuses.MARKED, words) if found and warns else (statuses.SUCCESS, "")


def _response(status: int, why: str) -> Dataset:
    """Give the elements of the C-STORE response (PS3.7 9.3.1.2)."""
    response = Dataset()
    response.Status = status
    response.ErrorComment = why.encode("ascii", "replace").decode()[:_LONGEST_COMMENT]
    return response
