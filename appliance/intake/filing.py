"""File one whole instance: its name in studies/, its row, its reception.

Both roads come here: what a sender waits for (`take`) and what a crash left
(`adoption`).  File first, row second, answer third; every step may be killed and
repeated.  What comes under a known UID is judged by `fate`; nothing is ever
overwritten in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.dicom import statuses
from appliance.dicom.header import Header
from appliance.disk.layout import Layout, next_version, version_of
from appliance.disk.quarantine import is_try
from appliance.disk.studies import Studies
from appliance.errors import Conflicts, IndexUnavailable, NotFound
from appliance.index import arrivals, catalog, jobs
from appliance.index.catalog import Instance
from appliance.index.database import Connection, Database
from appliance.index.going import check_not_going
from appliance.index.reception import Reception
from appliance.intake import identity
from appliance.intake.alike import Alike
from appliance.intake.arrived import Arrived, Kept, Sender, path_of
from appliance.intake.aside import FIRST_STAYS, Aside
from appliance.intake.fate import Fate, fate_of, is_in_place, may_replace
from appliance.intake.going import PATIENCE_SECONDS, CameBack, when_gone
from appliance.settings import Receiver

__all__ = ["Arrived", "Filing", "Kept", "Sender", "path_of"]

_REPLACED = "It took the place of other content under its SOP Instance UID."


@dataclass(frozen=True, slots=True)
class _Filed:
    """What the transaction made of an instance; `instance` is what its UID stands for now."""

    fate: Fate
    instance: Instance | None
    arrival_id: int | None = None
    made_by: int | None = None  # the job, when a result came back to the stream that made it
    why_held: str = ""


class Filing:
    """The way into the store and the catalog, for one process."""

    def __init__(
        self, db: Database, layout: Layout, rules: Callable[[], Receiver] = Receiver
    ) -> None:
        self._db = db
        self._studies = Studies(layout)
        self._aside = Aside(db, layout, self._studies)
        self._alike = Alike()
        self._came_back = CameBack(layout)
        self._rules = rules

    def file(
        self,
        arrived: Arrived,
        *,
        accept_identity: bool = False,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Kept:
        """Link, sync, register; the name in incoming/ is left to the caller.

        With `accept_identity` it joins its study and series whatever other patient or
        study they are of: a person said so.  While its study is being erased it waits so
        long, and then is the first of a new one.

        Raises Conflicts when the settings refuse it: its bytes are in quarantine then.
        Raises NoSpace, DiskError and IndexUnavailable: then it is not acknowledged,
        and may be filed again.
        """
        return when_gone(lambda: self._file(arrived, accept_identity), patience_seconds)

    def _file(self, arrived: Arrived, accept_identity: bool) -> Kept:
        on_conflict = self._rules().on_conflict
        named = self._name(arrived, on_conflict)
        with self._db.write() as connection:
            # Copies of one instance come one after the other here, on either engine, and so
            # do the first instances of a study and of a series: one patient wins.
            self._db.lock(connection, f"instance {arrived.header.sop_instance_uid}")
            self._db.lock(connection, f"study {arrived.header.study_uid}")
            self._db.lock(connection, f"series {arrived.header.series_uid}")
            filed = self._register(connection, arrived, on_conflict, accept_identity)
            self._unname(named, filed, arrived)
        self._put_aside(filed, arrived, on_conflict)
        return _kept(filed, arrived)

    def is_filed(self, header: Header, association_id: str) -> bool:
        """Say whether this association's copy was registered before the crash."""
        with self._db.read() as connection:
            return arrivals.is_received(connection, association_id, header.sop_instance_uid)

    def finish(self, arrived: Arrived) -> None:
        """Do what a crash left undone after an instance was registered."""
        with self._db.read() as connection:
            kept = catalog.find_instance(connection, arrived.header.sop_instance_uid)
        if kept is not None and version_of(kept.path) > 1:
            self._aside.replaced(kept, arrived)

    def unname(self, header: Header, path: Path) -> None:
        """Take the name that a file has in studies/ back, unless a row speaks of it."""
        with self._db.write() as connection:
            self._db.lock(connection, f"instance {header.sop_instance_uid}")
            kept = catalog.find_instance(connection, header.sop_instance_uid)
            if kept is None or kept.path != path_of(header):
                self._studies.unlink_if_same(path_of(header), path)

    # -- before the transaction ---------------------------------------------------------------

    def _name(self, arrived: Arrived, on_conflict: str) -> str | None:
        """Give a durable name to what may need one; whose it is the transaction says."""
        header = arrived.header
        with self._db.read() as connection:
            check_not_going(connection, header.study_uid, is_question=True)
            known = catalog.find_instance(connection, header.sop_instance_uid)
        place = path_of(header) if known is None else None
        # Compared and remembered here: files are not read in the transaction.
        if known is not None and self._differs(known, arrived):
            is_replacing = on_conflict == "replace" and may_replace(known, header)
            place = next_version(known.path) if is_replacing else None
        if place is not None:
            self._studies.link(arrived.written.path, place)
            self._studies.sync(place)
        return place

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

    # -- in it --------------------------------------------------------------------------------

    def _register(
        self, connection: Connection, arrived: Arrived, on_conflict: str, accept_identity: bool
    ) -> _Filed:
        header = arrived.header
        kept = catalog.find_instance(connection, header.sop_instance_uid)
        check_not_going(connection, header.study_uid, *([kept.study_uid] if kept else ()))
        why_held = "" if accept_identity else identity.why_not_joined(connection, header)
        made_by = _came_back_of(connection, kept, arrived.sender.called_ae_title)
        fate = fate_of(
            kept,
            header,
            is_same=kept is not None and not self._differs(kept, arrived),
            is_back=made_by is not None,
            may_join=not why_held,
            on_conflict=on_conflict,
        )
        # A conflict that a person had tried again in vain: nobody sent anything.
        is_vain = fate is Fate.CONFLICT and is_try(arrived.sender.association_id)
        if is_vain or fate in (Fate.HELD, Fate.REFUSED):
            return _Filed(fate, kept, why_held=why_held)
        instance = self._row(connection, fate, kept, arrived)
        is_other = fate is not Fate.NEW and self._differs(instance, arrived)
        reception = reception_of(arrived, is_conflict=is_other)
        level = None if made_by is not None else arrived.level
        arrival_id = arrivals.receive(connection, reception, level)
        return _Filed(fate, instance, arrival_id, made_by)

    def _row(
        self, connection: Connection, fate: Fate, kept: Instance | None, arrived: Arrived
    ) -> Instance:
        """Give an instance its row, or move it, and see to it that the row's name has its bytes."""
        header, written = arrived.header, arrived.written
        if kept is None:
            self._came_back.tell(connection, arrived)
        if kept is None or is_in_place(kept, header):  # of a known one the study's last time moves
            catalog.add_instance(
                connection,
                header,
                path=path_of(header),
                size_bytes=written.size_bytes,
                dataset_sha256=written.dataset_sha256,
                now=arrived.at,
            )
        if kept is not None and fate is Fate.REPLACES:
            _replace(connection, kept, arrived)
        found = catalog.find_instance(connection, header.sop_instance_uid)
        assert found is not None, "an instance that was just added is not there"
        if fate in (Fate.NEW, Fate.REPLACES):
            self._hold(found, arrived)
        elif found.dataset_sha256 == written.dataset_sha256:
            self._restore(found, arrived)
        return found

    def _hold(self, kept: Instance, arrived: Arrived) -> None:
        """See to it that a new row's name holds its bytes.

        A name without a row may hold what a crash left, or the other content of a
        sender that comes after us.
        """
        source = arrived.written.path
        if self._studies.holds(kept.path, source, kept.dataset_sha256):
            return
        if self._studies.path(kept.path).exists():
            # In the transaction that made the row: nobody else can register the name now.
            self._aside.leftover(kept.path, arrived)
        self._studies.link(source, kept.path)
        self._studies.sync(kept.path)

    def _restore(self, kept: Instance, arrived: Arrived) -> None:
        """Give a known instance its bytes back when somebody removed its file."""
        if not self._studies.path(kept.path).exists():
            self._studies.link(arrived.written.path, kept.path)
            self._studies.sync(kept.path)

    def _unname(self, named: str | None, filed: _Filed, arrived: Arrived) -> None:
        """Take names back that we gave to our bytes and that no row speaks of.

        The direct road links before anybody judges, to the place of a first content.
        """
        for name in (named, path_of(arrived.header)):
            if name is not None and (filed.instance is None or filed.instance.path != name):
                self._studies.unlink_if_same(name, arrived.written.path)

    # -- after it -----------------------------------------------------------------------------

    def _put_aside(self, filed: _Filed, arrived: Arrived, on_conflict: str) -> None:
        is_refused = filed.fate is Fate.REFUSED or on_conflict == "refuse"
        status = statuses.NOT_AUTHORISED if is_refused else statuses.SUCCESS
        if filed.fate is Fate.HELD:
            self._aside.held(arrived, filed.why_held, status)
            if is_refused:
                raise Conflicts(filed.why_held, remedy="look at the page Quarantine")
        elif filed.fate in (Fate.CONFLICT, Fate.REFUSED):
            self._aside.conflict(arrived, status)
            if filed.fate is Fate.REFUSED:
                raise Conflicts(
                    "Other content is kept under this SOP Instance UID.",
                    remedy="look at the page Quarantine, or set receiver.on_conflict",
                )
        elif filed.instance is not None and version_of(filed.instance.path) > 1:
            self._aside.replaced(filed.instance, arrived)


def _kept(filed: _Filed, arrived: Arrived) -> Kept:
    header, called = arrived.header, arrived.sender.called_ae_title
    notes = {
        Fate.NEW: "",
        Fate.KNOWN: "It was kept already.",
        Fate.RETURNED: f"It is a result of job {filed.made_by} that came back to {called}, "
        "which made it: no new job.",
        Fate.CONFLICT: FIRST_STAYS,
        Fate.REPLACES: _REPLACED,
        Fate.HELD: filed.why_held,
    }
    return Kept(
        sop_instance_uid=header.sop_instance_uid,
        study_uid=filed.instance.study_uid if filed.instance else header.study_uid,
        is_new=filed.fate is Fate.NEW,
        arrival_id=filed.arrival_id,
        note=notes.get(filed.fate, ""),
        is_returned=filed.fate is Fate.RETURNED,
        is_held=filed.fate is Fate.HELD,
        is_conflict=filed.fate is Fate.CONFLICT,
        marks=header.marks,
    )


def _replace(connection: Connection, kept: Instance, arrived: Arrived) -> None:
    is_moved = catalog.replace_content(
        connection,
        kept,
        arrived.header,
        path=next_version(kept.path),
        size_bytes=arrived.written.size_bytes,
        dataset_sha256=arrived.written.dataset_sha256,
        now=arrived.at,
    )
    if not is_moved:
        raise IndexUnavailable(
            "The instance was changed by somebody else meanwhile.", remedy="have it sent again"
        )


def reception_of(arrived: Arrived, *, is_conflict: bool = False) -> Reception:
    """Say that it came."""
    # Of the study that was sent, which is another where the UID was used twice.
    return Reception(
        sop_instance_uid=arrived.header.sop_instance_uid,
        study_uid=arrived.header.study_uid,
        series_uid=arrived.header.series_uid,
        called_ae_title=arrived.sender.called_ae_title,
        calling_ae_title=arrived.sender.calling_ae_title,
        address=arrived.sender.address,
        association_id=arrived.sender.association_id,
        received_at=arrived.at,
        is_conflict=is_conflict,
    )


def _came_back_of(
    connection: Connection, kept: Instance | None, called_ae_title: str
) -> int | None:
    """Name the job when this is a result that came back to the stream that made it."""
    if kept is None or kept.made_by_job is None:
        return None
    try:
        job = jobs.get(connection, kept.made_by_job)
    except NotFound:
        return None
    return job.id if job.ae_title == called_ae_title else None
