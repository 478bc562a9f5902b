"""Try what is in quarantine again: the same intake, under the settings and streams of today.

For a person, by web or command line.  The entry is removed only once its instance is
durable with its row; every step may be killed and repeated, and twice gives one copy:
intake knows the instance, and quarantine knows the entry by the name of its try.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance import ids, logs
from appliance.dicom import part10
from appliance.disk import quarantine, space
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.errors import BrookboxError, InstanceRefused, NoSpace, QuarantineError
from appliance.index import arrivals, events
from appliance.index.arrivals import Association
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.intake.take import Intake, Kept, Sender
from appliance.settings import Settings
from appliance.streams.catalog import Streams

KEPT = "quarantined file kept"
STAYED = "quarantined file tried in vain"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a try: `sentence` says where the instance went, or why it stays here."""

    id: str
    is_kept: bool
    sentence: str
    remedy: str = ""
    study_uid: str = ""
    sop_instance_uid: str = ""
    arrival_id: int | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """The way back in, for one act of a person; `who` is named in the events."""

    db: Database
    layout: Layout
    settings: Settings
    streams: Streams
    who: str

    def try_again(self, id: str, now: datetime, *, accept_identity: bool = False) -> Tried:
        """Take an entry in if intake takes it today; else it stays, and says why.

        `accept_identity` is the person's word that a held instance belongs to the study and
        the series of its UIDs.  Raises NotFound; QuarantineError when somebody else tries it
        just now, or when it is not held and its identity was to be accepted; NoSpace,
        DiskError and IndexUnavailable: then nothing has changed.
        """
        with quarantine.claimed(self.layout, id):
            entry = quarantine.read(self.layout, id)
            if accept_identity and entry.kind is not Kind.HELD:
                raise QuarantineError(
                    f"{id} is not held for a person's judgement, but {entry.kind}",
                    remedy="try it again as it is, or download it and mend it",
                )
            _look_for_room(self.layout, self.settings)
            entry = quarantine.begin_try(self.layout, id, now)
            tried = self._try(entry, now, accept_identity)
            self._tell(entry, tried, now, accept_identity)
            if tried.is_kept:
                quarantine.remove(self.layout, id)
        return tried

    def _try(self, entry: Entry, now: datetime, accept_identity: bool) -> Tried:
        try:
            kept = self._keep(entry, now, accept_identity)
        except InstanceRefused as error:
            quarantine.note_failed(self.layout, entry.id, str(error))
            return Tried(entry.id, False, str(error), error.remedy)
        except BrookboxError as error:
            quarantine.note_failed(self.layout, entry.id, str(error))
            raise
        left = quarantine.read(self.layout, entry.id)
        if left.tried:  # intake put it aside once more, under the same entry
            return Tried(entry.id, False, left.tried, left.remedy, kept.study_uid)
        return Tried(
            id=entry.id,
            is_kept=True,
            sentence=self._where(entry, kept),
            study_uid=kept.study_uid,
            sop_instance_uid=kept.sop_instance_uid,
            arrival_id=kept.arrival_id,
        )

    def _keep(self, entry: Entry, now: datetime, accept_identity: bool) -> Kept:
        path = quarantine.file_of(self.layout, entry.id)
        meta = part10.read_meta(path)[0]
        level = self._level(entry)
        node, rules = self.settings.node.ae_title, self.settings.receiver
        sender = Sender(
            called_ae_title=entry.called_ae_title,
            calling_ae_title=entry.calling_ae_title,
            address=entry.address,
            association_id=entry.try_name,
            local=meta.receiving_address,
        )
        intake = Intake(self.db, self.layout, node, lambda: rules)
        if level is not None:
            self._open(entry, now)
        came = 0
        try:
            kept = intake.keep(
                path,
                sop_class_uid=entry.sop_class_uid or meta.sop_class_uid,
                sop_instance_uid=entry.sop_instance_uid or meta.sop_instance_uid,
                transfer_syntax_uid=entry.transfer_syntax_uid or meta.transfer_syntax_uid,
                sender=sender,
                level=level,
                now=now,
                accept_identity=accept_identity,
            )
            came = 0 if kept.is_held or kept.is_conflict else 1
            return kept
        finally:
            intake.close()
            if level is not None:
                ended = {"instances": came, "failures": 1 - came}
                arrivals.close_association(self.db, entry.try_name, Ending.RELEASED, now, **ended)

    def _level(self, entry: Entry) -> str | None:
        """Give the level of the stream that it was sent to, as it is today."""
        stream = self.streams.find(entry.called_ae_title)
        if stream is None or entry.called_ae_title == self.settings.node.ae_title.strip(" "):
            return None
        return stream.info.level if stream.info else "study"

    def _open(self, entry: Entry, now: datetime) -> None:
        """Give the arrival one who brings it, as an association would."""
        one = Association(
            id=entry.try_name,
            called_ae_title=entry.called_ae_title,
            calling_ae_title=entry.calling_ae_title,
            address=entry.address,
            process=str(ids.this_process()),
            opened_at=now,
        )
        arrivals.open_association(self.db, one)

    def _where(self, entry: Entry, kept: Kept) -> str:
        where = "It is kept now" if kept.is_new else (kept.note or "It was kept already.")
        called = entry.called_ae_title
        if kept.arrival_id is not None:
            return f"{where.rstrip('.')}: it came in for {called}."
        is_known = called and self.streams.find(called) is None
        if is_known and called != self.settings.node.ae_title.strip(" "):
            return f"{where.rstrip('.')}. No stream has the AE title {called} today: no job."
        return f"{where.rstrip('.')}."

    def _tell(self, entry: Entry, tried: Tried, now: datetime, accept_identity: bool) -> None:
        asked = "took a held file in all the same" if accept_identity else "had a file tried again"
        stays = "" if tried.is_kept else "It stays there: "
        kind = KEPT if tried.is_kept else STAYED
        with self.db.write() as connection:
            events.append(
                connection, kind, f"{self.who} {asked}, out of quarantine. {stays}{tried.sentence}",
                now, who=self.who, study_uid=tried.study_uid, quarantine=tried.id,
                arrival=tried.arrival_id, sop_instance_uid=tried.sop_instance_uid,
                called=entry.called_ae_title, calling=entry.calling_ae_title,
            )  # fmt: skip
        logs.get().info(kind, quarantine=tried.id, study=tried.study_uid, who=self.who)


def remove(db: Database, layout: Layout, removed: list[str], who: str, now: datetime) -> None:
    """Remove entries for good, as one act of a person; NotFound before anything is removed."""
    for id in removed:
        quarantine.read(layout, id)
    some = "a file" if len(removed) == 1 else f"{len(removed)} files"
    with db.write() as connection:
        events.append(
            connection, "quarantined files removed", f"{who} removed {some} from quarantine.", now,
            who=who, quarantine=removed[:100],
        )  # fmt: skip
    for id in removed:
        quarantine.remove(layout, id)
    logs.get().info("quarantined files removed", files=len(removed), who=who)


def _look_for_room(layout: Layout, settings: Settings) -> None:
    """Raise NoSpace when a sender would be refused, too."""
    rules, volume = settings.receiver, space.measure(layout.root)
    if why := space.degraded(layout):
        raise NoSpace(
            f"the data volume is not trusted: {why}",
            remedy="look at dmesg and at the disk, then restart the node",
        )
    if space.is_short(volume, rules.reserve_gb, rules.reserve_percent):
        raise NoSpace(
            "there is no space left for studies", remedy="make room first: brookbox status"
        )
