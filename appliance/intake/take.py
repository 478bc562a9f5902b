"""Take an instance that came over the network or as an upload, and answer for it.

`Intake.keep` returns once the file and its reception are durable, and raises when
they are not: that is all that 0x0000 promises, and the seam at which another hot
path may stand later.  Made once per process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from appliance import bells, logs
from appliance.dicom import marks, part10
from appliance.dicom.header import Buffer, Header, opened
from appliance.disk import quarantine
from appliance.disk.incoming import Incoming, Written
from appliance.disk.layout import Layout
from appliance.disk.resent import Resent
from appliance.disk.studies import dataset_digest
from appliance.errors import DoesNotMatch, IndexUnavailable, InstanceRefused
from appliance.index import catalog, events
from appliance.index.database import Database
from appliance.intake.alike import holds_bytes
from appliance.intake.arrived import Arrived, Kept, Sender
from appliance.intake.coerced import coerced
from appliance.intake.filing import Filing
from appliance.intake.noted import Noted
from appliance.settings import Receiver

__all__ = ["Intake", "Kept", "Sender"]


class Intake:
    """The way in, for one process; `rules` gives the settings as they are now."""

    def __init__(
        self,
        db: Database,
        layout: Layout,
        node_ae_title: str,
        rules: Callable[[], Receiver] = Receiver,
    ) -> None:
        self._db = db
        self._layout = layout
        self._node_ae_title = node_ae_title
        self.incoming = Incoming(layout.incoming)
        self._filing = Filing(db, layout, rules)
        self._rules = rules
        self._resent = Resent(layout)
        self._noted = Noted()

    def keep(
        self,
        data_set: Buffer | Path,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        sender: Sender,
        level: str | None,
        now: datetime,
        abstract_syntax_uid: str = "",
        accept_identity: bool = False,
    ) -> Kept:
        """Keep an instance and record that it came; the bytes stay exactly as they are.

        But for UIDs that it lacks, where the settings have the node make them.

        The UIDs are those of the request, and of its presentation context if it had one.
        A `data_set` that is a Path names a Part 10 file, whose own File Meta is replaced,
        or a bare data set.  `level` is the stream's, "study" or "series"; None opens no
        arrival.  `accept_identity` is a person's word that it joins its study and series,
        whatever other patient or study they are of.

        Raises InstanceRefused (its bytes and the reason are in quarantine then),
        NoSpace, DiskError, IndexUnavailable: it is not kept.
        """
        meta = part10.FileMeta(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            source_ae_title=self._node_ae_title,
            sending_ae_title=sender.calling_ae_title,
            receiving_ae_title=sender.called_ae_title,
            source_address=sender.local,
            sending_address=part10.address_of(sender.address, sender.port),
            receiving_address=sender.local,
        )
        with opened(data_set) as view:
            start = part10.read_meta(view)[1] if isinstance(data_set, Path) else 0
            with view[start:] as body:
                written, header = self._written(body, meta, abstract_syntax_uid, sender, now)
        return self._file(Arrived(written, header, sender, level, now), accept_identity)

    def keep_written(
        self,
        path: Path,
        meta: part10.FileMeta,
        start: int,
        *,
        sender: Sender,
        level: str | None,
        now: datetime,
        abstract_syntax_uid: str,
        refusal: InstanceRefused | None,
    ) -> Kept:
        """Do as `keep` with a whole, synced file in incoming/, whose data set is at `start`.

        `refusal` is why its data set is no good, when that is known: it is not walked again.
        """
        size = path.stat().st_size
        written = Written(path, size, dataset_digest(path), sender.association_id)
        with opened(path) as view, view[start:] as body:
            written, header = self._judged(
                written, body, meta, abstract_syntax_uid, sender, now, refusal
            )
        return self._file(Arrived(written, header, sender, level, now), accept_identity=False)

    def close(self) -> None:
        """Let this process's folder in incoming/ go."""
        self.incoming.close()

    def _written(
        self,
        body: memoryview,
        meta: part10.FileMeta,
        abstract_syntax_uid: str,
        sender: Sender,
        now: datetime,
    ) -> tuple[Written, Header]:
        """Write a data set and check it; what is refused goes to quarantine as it was sent."""
        written = self.incoming.write(part10.encode(meta), body, sender.association_id)
        return self._judged(written, body, meta, abstract_syntax_uid, sender, now)

    def _judged(
        self,
        written: Written,
        body: memoryview,
        meta: part10.FileMeta,
        abstract_syntax_uid: str,
        sender: Sender,
        now: datetime,
        refusal: InstanceRefused | None = None,
    ) -> tuple[Written, Header]:
        """Check what is written; where the settings have the node make its UIDs, write it anew."""
        try:
            if refusal is not None:
                raise refusal
            return written, checked_header(body, meta, abstract_syntax_uid)
        except InstanceRefused as error:
            mended = self._mended(body, meta, sender, written) if self._rules().coerce else None
            if mended is None:
                self._refuse(written, meta, sender, error, now)
                raise
        written.path.unlink()
        with memoryview(mended) as view:
            meta = part10.as_coerced(meta)
            written = self.incoming.write(part10.encode(meta), view, sender.association_id)
            try:
                return written, checked_header(view, meta, abstract_syntax_uid)
            except InstanceRefused as error:
                self._refuse(written, meta, sender, error, now)
                raise

    def _mended(
        self, body: memoryview, meta: part10.FileMeta, sender: Sender, written: Written
    ) -> bytes | None:
        """Give the data set with UIDs of ours, the same as of an instance that is kept already."""
        try:
            return coerced(body, meta, sender, self._made_study_of)
        except IndexUnavailable:
            self.incoming.leave(written.path)
            raise

    def _made_study_of(self, sop_instance_uid: str) -> str:
        with self._db.read() as connection:
            kept = catalog.find_instance(connection, sop_instance_uid)
        return kept.study_uid if kept and marks.COERCED in kept.marks.split(",") else ""

    def _file(self, arrived: Arrived, accept_identity: bool) -> Kept:
        try:
            kept = self._filing.file(arrived, accept_identity=accept_identity)
        except InstanceRefused:
            arrived.written.path.unlink(missing_ok=True)  # its bytes are in quarantine
            raise
        except BaseException:
            self.incoming.leave(arrived.written.path)
            raise
        arrived.written.path.unlink(missing_ok=True)
        if kept.arrival_id is not None:
            bells.ring(self._layout.run, "dispatcher")
        return kept

    def _refuse(
        self,
        written: Written,
        meta: part10.FileMeta,
        sender: Sender,
        error: InstanceRefused,
        now: datetime,
    ) -> None:
        try:
            entry = refusal(meta, sender, error, now)
            id = self._resent.keep(
                written.path,
                replace(entry, dataset_sha256=written.dataset_sha256),
                lambda file: holds_bytes(file, written.dataset_sha256),
            )
        finally:
            written.path.unlink(missing_ok=True)
        logs.get().warning(
            "instance refused", status=f"0x{error.status:04X}", reason=str(error), quarantine=id
        )
        is_try = quarantine.is_try(sender.association_id)  # the try's own event tells of it
        if not is_try and self._noted.is_first(sender.association_id):
            self._append_event(error, sender, id, now)

    def _append_event(self, error: InstanceRefused, sender: Sender, id: str, now: datetime) -> None:
        sentence = (
            f"An instance that {sender.calling_ae_title} sent to {sender.called_ae_title} "
            f"is in quarantine: {error}"
        )
        try:
            with self._db.write() as connection:
                events.append(
                    connection, "instance refused", sentence, now, who=sender.calling_ae_title,
                    quarantine=id, association=sender.association_id, address=sender.address,
                )  # fmt: skip
        except IndexUnavailable as unavailable:
            # The refusal stands in quarantine with its words; the sender is told in any case.
            logs.get().warning("event not written", reason=str(unavailable))


def checked_header(
    data_set: memoryview, meta: part10.FileMeta, abstract_syntax_uid: str = ""
) -> Header:
    """Read a data set's header and compare it with the request (PS3.4 B.2.3).

    Raises CannotUnderstand or DoesNotMatch.
    """
    if len(data_set) < 8:
        raise DoesNotMatch(
            "The request came without a data set.", remedy="look at the sender's log, send again"
        )
    header = part10.header_of(data_set, meta)
    for name, of, said, found in (
        ("SOP Class UID (0008,0016)", "request", meta.sop_class_uid, header.sop_class_uid),
        ("SOP Instance UID (0008,0018)", "request", meta.sop_instance_uid, header.sop_instance_uid),
        (
            "SOP Class UID (0008,0016)",
            "presentation context",
            abstract_syntax_uid or header.sop_class_uid,
            header.sop_class_uid,
        ),
    ):
        if said.strip("\0 ") != found:
            raise DoesNotMatch(
                f"{name} of the data set is not the one of the {of}.",
                remedy="have the sender send the instance under its own UIDs",
            )
    return header


def refusal(
    meta: part10.FileMeta, sender: Sender, error: InstanceRefused, now: datetime
) -> quarantine.Entry:
    """Put a refusal into words for quarantine."""
    return quarantine.Entry(
        id="",
        reason=str(error),
        remedy=error.remedy,
        status=error.status,
        called_ae_title=sender.called_ae_title,
        calling_ae_title=sender.calling_ae_title,
        address=sender.address,
        association_id=sender.association_id,
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        received_at=now,
    )
