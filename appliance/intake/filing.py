"""File one whole instance: its name in studies/, its row, its reception.

Both roads come here: what a sender waits for (`take`) and what a crash left
(`adoption`).  File first, row second, answer third; every step may be killed and
repeated.  The first copy of an instance stays; nothing ever replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance.dicom.header import Header
from appliance.disk import quarantine
from appliance.disk.incoming import Written
from appliance.disk.layout import Layout, instance_path
from appliance.disk.studies import Studies
from appliance.errors import NotFound
from appliance.index import arrivals, catalog, events, jobs
from appliance.index.arrivals import Reception
from appliance.index.catalog import Instance
from appliance.index.database import Connection, Database
from appliance.intake.alike import Alike
from appliance.intake.noted import Noted

_NO_ROW = "It stood under an instance's name, but was never registered nor acknowledged."
_FIRST_STAYS = "An instance with this SOP Instance UID and other content is kept; the first stays."
_COMPARE = (
    "compare the two (compressed anew, an image is other content here, too); "
    "to have both, send the second under a SOP Instance UID of its own"
)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent an instance, and to whom; `port` and `local` go into File Meta when known.

    `association_id` is a name of ours (ids.new_id), `local` the node's own address
    that was called, as dicom:host:port.
    """

    called_ae_title: str
    calling_ae_title: str
    address: str
    association_id: str
    port: int = 0
    local: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """An instance that is kept; `note` is a sentence when there is something to say of it."""

    sop_instance_uid: str
    study_uid: str
    is_new: bool
    arrival_id: int | None
    note: str = ""
    is_returned: bool = False  # a result of ours that came back to the stream that made it


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole file in incoming/ that passed its checks; `level` None opens no arrival."""

    written: Written
    header: Header
    sender: Sender
    level: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class _Registered:
    """What the transaction found: the instance that is kept now, and what ours is beside it."""

    instance: Instance
    is_new: bool
    arrival_id: int | None
    made_by: int | None  # the job, when a result came back to the stream that made it


class Filing:
    """The way into the store and the catalog, for one process."""

    def __init__(self, db: Database, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._studies = Studies(layout)
        self._noted = Noted()
        self._alike = Alike()

    def file(self, arrived: Arrived) -> Kept:
        """Link, sync, register; the name in incoming/ is left to the caller.

        Raises NoSpace, DiskError and IndexUnavailable: then it is not acknowledged,
        and may be filed again.
        """
        self._name(arrived)
        with self._db.write() as connection:
            # Copies of one instance come one after the other here, on either engine.
            self._db.lock(connection, f"instance {arrived.header.sop_instance_uid}")
            done = self._register(connection, arrived)
        return self._kept(done, arrived)

    def is_filed(self, header: Header, association_id: str) -> bool:
        """Say whether this association's copy was registered before the crash."""
        with self._db.read() as connection:
            return arrivals.is_received(connection, association_id, header.sop_instance_uid)

    def _name(self, arrived: Arrived) -> None:
        """Give a new instance a durable name, if it is free; whose it is the transaction says."""
        with self._db.read() as connection:
            known = catalog.find_instance(connection, arrived.header.sop_instance_uid)
        if known is not None:
            self._differs(known, arrived)  # remembered: files are not read in the transaction
        else:
            relative = path_of(arrived.header)
            self._studies.link(arrived.written.path, relative)
            self._studies.sync(relative)

    def _register(self, connection: Connection, arrived: Arrived) -> _Registered:
        relative, written = path_of(arrived.header), arrived.written
        is_new = catalog.add_instance(
            connection,
            arrived.header,
            path=relative,
            size_bytes=written.size_bytes,
            dataset_sha256=written.dataset_sha256,
            now=arrived.at,
        )
        kept = catalog.find_instance(connection, arrived.header.sop_instance_uid)
        assert kept is not None, "an instance that was just added is not there"
        if kept.path != relative:  # known in another study or series: our name has no row
            self._studies.unlink_if_same(relative, written.path)
        if is_new:
            self._hold(kept, arrived)
        elif kept.dataset_sha256 == written.dataset_sha256:
            self._restore(kept, written)
        made_by = _came_back_of(connection, kept, arrived.sender.called_ae_title)
        level = None if made_by is not None else arrived.level
        reception = _reception(kept, arrived, is_conflict=self._differs(kept, arrived))
        arrival_id = arrivals.receive(connection, reception, level)
        return _Registered(kept, is_new, arrival_id, made_by)

    def _hold(self, kept: Instance, arrived: Arrived) -> None:
        """See to it that a new row's name holds its bytes.

        A name without a row may hold what a crash left, or the other content of a
        sender that comes after us.
        """
        written = arrived.written
        if not self._studies.holds(kept.path, written.path, kept.dataset_sha256):
            aside = quarantine.describe(self._layout, _entry(kept, None, _NO_ROW, arrived.at))
            self._studies.replace_unregistered(kept.path, written.path, aside)

    def _restore(self, kept: Instance, written: Written) -> None:
        """Give a known instance its bytes back when somebody removed its file."""
        if not self._studies.path(kept.path).exists():
            self._studies.link(written.path, kept.path)
            self._studies.sync(kept.path)

    def _differs(self, kept: Instance, arrived: Arrived) -> bool:
        """Say whether what came has other content than what is kept under its UID."""
        written = arrived.written
        return kept.dataset_sha256 != written.dataset_sha256 and not self._alike.is_same(
            self._studies.path(kept.path),
            kept.transfer_syntax_uid,
            written.path,
            arrived.header.transfer_syntax_uid,
            written.dataset_sha256,
        )

    def _kept(self, done: _Registered, arrived: Arrived) -> Kept:
        note = "" if done.is_new else "It was kept already."
        if done.made_by is not None:
            note = (
                f"It is a result of job {done.made_by} that came back to "
                f"{arrived.sender.called_ae_title}, which made it: no new job."
            )
        elif self._differs(done.instance, arrived):
            note = _FIRST_STAYS
            self._quarantine(done.instance, arrived)
        return Kept(
            sop_instance_uid=arrived.header.sop_instance_uid,
            study_uid=done.instance.study_uid,
            is_new=done.is_new,
            arrival_id=done.arrival_id,
            note=note,
            is_returned=done.made_by is not None,
        )

    def _quarantine(self, kept: Instance, arrived: Arrived) -> None:
        sender, now = arrived.sender, arrived.at
        entry = _entry(kept, sender, _FIRST_STAYS, now)
        id = quarantine.keep(self._layout, arrived.written.path, entry)
        if not self._noted.is_first(sender.association_id):
            return
        with self._db.write() as connection:
            events.append(
                connection, "instance conflicts", _FIRST_STAYS, now, who=sender.calling_ae_title,
                study_uid=arrived.header.study_uid, sop_instance_uid=kept.sop_instance_uid,
                association=sender.association_id, quarantine=id,
            )  # fmt: skip


def path_of(header: Header) -> str:
    """Name the place of an instance below data_root."""
    return instance_path(header.study_uid, header.series_uid, header.sop_instance_uid)


def _reception(kept: Instance, arrived: Arrived, *, is_conflict: bool) -> Reception:
    # Of the study that was sent, which is another where the UID was used twice.
    return Reception(
        sop_instance_uid=kept.sop_instance_uid,
        study_uid=arrived.header.study_uid,
        series_uid=arrived.header.series_uid,
        called_ae_title=arrived.sender.called_ae_title,
        calling_ae_title=arrived.sender.calling_ae_title,
        address=arrived.sender.address,
        association_id=arrived.sender.association_id,
        received_at=arrived.at,
        is_conflict=is_conflict,
    )


def _came_back_of(connection: Connection, kept: Instance, called_ae_title: str) -> int | None:
    """Name the job when this is a result that came back to the stream that made it."""
    if kept.made_by_job is None:
        return None
    try:
        job = jobs.get(connection, kept.made_by_job)
    except NotFound:
        return None
    return job.id if job.ae_title == called_ae_title else None


def _entry(kept: Instance, sender: Sender | None, why: str, now: datetime) -> quarantine.Entry:
    return quarantine.Entry(
        id="",
        reason=why,
        remedy=_COMPARE,
        status=0x0000,
        called_ae_title=sender.called_ae_title if sender else "",
        calling_ae_title=sender.calling_ae_title if sender else "",
        address=sender.address if sender else "",
        association_id=sender.association_id if sender else "",
        sop_class_uid=kept.sop_class_uid,
        sop_instance_uid=kept.sop_instance_uid,
        transfer_syntax_uid=kept.transfer_syntax_uid,
        received_at=now,
    )
