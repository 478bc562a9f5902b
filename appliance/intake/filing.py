"""File one whole instance: its name in studies/, its row, its reception.

Both roads come here: what a sender waits for (`take`) and what a crash left
(`adoption`).  File first, row second, answer third; every step may be killed and
repeated.  The first copy of an instance stays; nothing ever replaces it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.dicom import part10
from appliance.dicom.header import Header
from appliance.disk import quarantine
from appliance.disk.incoming import Written
from appliance.disk.layout import Layout, instance_path
from appliance.disk.studies import Studies, dataset_digest
from appliance.errors import InstanceRefused, NotFound
from appliance.index import arrivals, catalog, events, jobs
from appliance.index.arrivals import Reception
from appliance.index.catalog import Instance
from appliance.index.database import Database

_PATIENCE_SECONDS = 3.0
_PAUSE_SECONDS = 0.02
_FIRST_STAYS = "An instance with this SOP Instance UID and other content is kept; the first stays."


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

    def file(
        self, written: Written, header: Header, sender: Sender, level: str | None, now: datetime
    ) -> Kept:
        """Link, sync, register; the name in incoming/ is left to the caller.

        Raises NoSpace, DiskError and IndexUnavailable: then it is not acknowledged,
        and may be filed again.
        """
        relative = self._name(written, header, now)
        reception = reception_of(header, sender, now)
        with self._db.write() as connection:
            # Two copies of one instance come one after the other here, on either engine.
            self._db.lock(connection, f"instance {header.sop_instance_uid}")
            done = self._register(connection, written, header, relative, reception, level)
        return self._kept(done, written, sender, header, now)

    def is_filed(self, header: Header, association_id: str) -> bool:
        """Say whether this association's copy was registered before the crash."""
        with self._db.read() as connection:
            return arrivals.is_received(connection, association_id, header.sop_instance_uid)

    def _name(self, written: Written, header: Header, now: datetime) -> str:
        """Give the instance a durable name in studies/, unless another one has the place."""
        with self._db.read() as connection:
            known = catalog.find_instance(connection, header.sop_instance_uid)
        if known is not None and known.dataset_sha256 != written.dataset_sha256:
            return known.path
        # A known instance whose file is gone is given its bytes back here.
        relative = known.path if known else path_of(header)
        if self._studies.link(written.path, relative) or known is None:
            if known is None:
                self._settle(written, header, relative, now)
            self._studies.sync(relative)
        return relative

    def _settle(self, written: Written, header: Header, relative: str, now: datetime) -> None:
        """See to it that the name holds our bytes, or somebody else's with a row.

        A name without a row is another sender's that is a moment ahead of us, or what
        a crash left.  Equal bytes are registered by whoever comes first.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._studies.link(written.path, relative):
            place = self._studies.path(relative)
            try:
                seen = place.stat()
                if seen.st_ino == written.path.stat().st_ino:
                    return
                if dataset_digest(place) == written.dataset_sha256:
                    return
                part10.read_file(place)
                why = "It was left by a crash, never acknowledged, and another copy came."
            except FileNotFoundError:
                continue
            except InstanceRefused as error:
                why, deadline = f"It was left by a crash, broken: {error}", 0.0
            if self._is_known(header.sop_instance_uid):
                return
            if time.monotonic() >= deadline:
                entry = _entry(header, None, why, now)
                self._studies.set_aside(relative, seen, quarantine.describe(self._layout, entry))
            time.sleep(_PAUSE_SECONDS)

    def _register(
        self,
        connection: sa.Connection,
        written: Written,
        header: Header,
        relative: str,
        reception: Reception,
        level: str | None,
    ) -> _Registered:
        is_new = catalog.add_instance(
            connection,
            header,
            path=relative,
            size_bytes=written.size_bytes,
            dataset_sha256=written.dataset_sha256,
            now=reception.received_at,
        )
        kept = catalog.find_instance(connection, header.sop_instance_uid)
        assert kept is not None, "an instance that was just added is not there"
        if kept.path != relative:  # it is known in another study or series: ours has no row
            self._studies.unlink_if_same(relative, written.path)
        made_by = _came_back_of(connection, kept, reception.called_ae_title)
        arrival_id = arrivals.receive(
            connection,
            Reception(
                **{name: getattr(reception, name) for name in Reception.__slots__}
                | {"study_uid": kept.study_uid, "series_uid": kept.series_uid}
            ),
            None if made_by is not None else level,
        )
        return _Registered(kept, is_new, arrival_id, made_by)

    def _kept(
        self, done: _Registered, written: Written, sender: Sender, header: Header, now: datetime
    ) -> Kept:
        note = "" if done.is_new else "It was kept already."
        if done.made_by is not None:
            note = (
                f"It is a result of job {done.made_by} that came back to {sender.called_ae_title}, "
                "which made it: no new job."
            )
        elif done.instance.dataset_sha256 != written.dataset_sha256:
            note = _FIRST_STAYS
            entry = _entry(header, sender, note, now)
            id = quarantine.keep(self._layout, written.path, entry)
            with self._db.write() as connection:
                events.append(
                    connection, "instance conflicts", note, now, who=sender.calling_ae_title,
                    study_uid=done.instance.study_uid, quarantine=id,
                    sop_instance_uid=header.sop_instance_uid, association=sender.association_id,
                )  # fmt: skip
        return Kept(
            header.sop_instance_uid,
            done.instance.study_uid,
            done.is_new,
            done.arrival_id,
            note,
            is_returned=done.made_by is not None,
        )

    def _is_known(self, sop_instance_uid: str) -> bool:
        with self._db.read() as connection:
            return catalog.find_instance(connection, sop_instance_uid) is not None


def path_of(header: Header) -> str:
    """Name the place of an instance below data_root."""
    return instance_path(header.study_uid, header.series_uid, header.sop_instance_uid)


def reception_of(header: Header, sender: Sender, now: datetime) -> Reception:
    """Say that the instance came."""
    return Reception(
        sop_instance_uid=header.sop_instance_uid,
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        called_ae_title=sender.called_ae_title,
        calling_ae_title=sender.calling_ae_title,
        address=sender.address,
        association_id=sender.association_id,
        received_at=now,
    )


def _came_back_of(connection: sa.Connection, kept: Instance, called_ae_title: str) -> int | None:
    """Name the job when this is a result that came back to the stream that made it."""
    if kept.made_by_job is None:
        return None
    try:
        job = jobs.get(connection, kept.made_by_job)
    except NotFound:
        return None
    return job.id if job.ae_title == called_ae_title else None


def _entry(header: Header, sender: Sender | None, why: str, now: datetime) -> quarantine.Entry:
    return quarantine.Entry(
        id="",
        reason=why,
        remedy="compare the two, and send the right one under a UID of its own",
        status=0x0000,
        called_ae_title=sender.called_ae_title if sender else "",
        calling_ae_title=sender.calling_ae_title if sender else "",
        address=sender.address if sender else "",
        association_id=sender.association_id if sender else "",
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        received_at=now,
    )
