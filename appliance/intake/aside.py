"""What is put aside into quarantine beside what is kept, and told of in the audit trail.

One event for each association and study, whatever came over it; no patient's name or
ID.  The bytes are durable in quarantine before anybody is answered.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from appliance import logs
from appliance.dicom import part10
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.disk.resent import Resent
from appliance.disk.studies import Studies
from appliance.errors import CannotUnderstand, IndexUnavailable
from appliance.index import catalog, events
from appliance.index.catalog import Instance
from appliance.index.database import Database
from appliance.intake.alike import holds
from appliance.intake.arrived import Arrived
from appliance.intake.noted import Noted

FIRST_STAYS = "An instance with this SOP Instance UID and other content is kept; the first stays."
_REPLACED = "It was kept until other content came under its SOP Instance UID and took its place."
_NO_ROW = "It stood under an instance's name, but was never registered nor acknowledged."
_COMPARE = (
    "compare the two (compressed anew, an image is other content here, too); "
    "to have both, send the second under a SOP Instance UID of its own"
)
_JUDGE = (
    "compare the two; take it in all the same, or remove it and have its sender correct the UIDs"
)
_LOOK = "remove it, once the one that is kept has been looked at"


class Aside:
    """The way into quarantine for what intake did not join, for one process."""

    def __init__(self, db: Database, layout: Layout, studies: Studies) -> None:
        self._db = db
        self._layout = layout
        self._studies = studies
        self._resent = Resent(layout)
        self._noted = Noted()

    def conflict(self, arrived: Arrived, status: int) -> None:
        """Keep other content than what is kept under its UID; the sender is answered `status`."""
        id = self._keep(arrived, _entry(arrived, Kind.CONFLICT, FIRST_STAYS, _COMPARE, status))
        self._tell("instance conflicts", FIRST_STAYS, arrived, id)

    def held(self, arrived: Arrived, why: str, status: int) -> None:
        """Keep what did not join its study, until a person decides."""
        id = self._keep(arrived, _entry(arrived, Kind.HELD, why, _JUDGE, status))
        self._tell("instance held", f"An instance is held for a person. {why}", arrived, id)

    def replaced(self, kept: Instance, arrived: Arrived) -> None:
        """Move what an instance held before into quarantine; nothing when that was done.

        May be killed and called again at any step: a file is moved in one step.
        """
        for relative in self._studies.older_versions(kept.path):
            entry = _entry(arrived, Kind.REPLACED, _REPLACED, _COMPARE, 0x0000)
            entry = _as_it_came(entry, self._studies.path(relative))
            aside = quarantine.describe(self._layout, entry)
            with self._db.write() as connection:
                self._db.lock(connection, f"instance {kept.sop_instance_uid}")
                now_kept = catalog.find_instance(connection, kept.sop_instance_uid)
                is_free = now_kept is None or now_kept.path != relative
                is_moved = is_free and self._studies.set_aside(relative, aside)
            if is_moved:
                self._tell("instance replaced", _REPLACED, arrived, aside.stem)
            else:
                aside.with_suffix(".json").unlink(missing_ok=True)

    def leftover(self, relative: str, arrived: Arrived) -> None:
        """Move a file of no row, which stands under an instance's name, out of its way."""
        entry = _entry(arrived, Kind.LEFTOVER, _NO_ROW, _LOOK, 0x0000, is_senders=False)
        self._studies.set_aside(relative, quarantine.describe(self._layout, entry))

    def _keep(self, arrived: Arrived, entry: Entry) -> str:
        """Put it aside; what is sent again, and is there whole, is counted on what is there."""
        came, syntax = arrived.written, arrived.header.transfer_syntax_uid
        entry = replace(entry, dataset_sha256=came.dataset_sha256)
        return self._resent.keep(
            came.path, entry, lambda file: holds(file, came.path, syntax, came.dataset_sha256)
        )

    def _tell(self, kind: str, sentence: str, arrived: Arrived, id: str) -> None:
        sender, header = arrived.sender, arrived.header
        logs.get().warning(kind, quarantine=id, study=header.study_uid)
        if quarantine.is_try(sender.association_id):  # the try's own event tells of it
            return
        if not self._noted.is_first(f"{kind} {sender.association_id} {header.study_uid}"):
            return
        try:
            with self._db.write() as connection:
                events.append(
                    connection, kind, sentence, arrived.at, who=sender.calling_ae_title,
                    study_uid=header.study_uid, sop_instance_uid=header.sop_instance_uid,
                    association=sender.association_id, quarantine=id,
                )  # fmt: skip
        except IndexUnavailable as error:
            # The words stand in quarantine with the bytes in any case.
            logs.get().warning("event not written", reason=str(error))


def _as_it_came(entry: Entry, stored: Path) -> Entry:
    """Have an entry name those who sent the stored file, and the file's own syntax."""
    try:
        meta = part10.read_meta(stored)[0]
    except (CannotUnderstand, OSError):
        return entry
    return replace(
        entry,
        called_ae_title=meta.receiving_ae_title,
        calling_ae_title=meta.sending_ae_title,
        address=part10.host_of(meta.sending_address),
        association_id="",
        sop_class_uid=meta.sop_class_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
    )


def _entry(
    arrived: Arrived,
    kind: Kind,
    reason: str,
    remedy: str,
    status: int,
    *,
    is_senders: bool = True,
) -> Entry:
    """Put into words what is put aside; who sent it, unless nobody knows (`is_senders`)."""
    sender, header = arrived.sender, arrived.header
    return Entry(
        id="",
        reason=reason,
        remedy=remedy,
        status=status,
        called_ae_title=sender.called_ae_title if is_senders else "",
        calling_ae_title=sender.calling_ae_title if is_senders else "",
        address=sender.address if is_senders else "",
        association_id=sender.association_id if is_senders else "",
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        received_at=arrived.at,
        kind=kind,
    )
