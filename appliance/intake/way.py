"""The direct road in: one way for each presentation context of an association.

The receiver's hot loop calls it.  `Ways` is made once per receiving process, after the
fork; `way` gives what is constant for a presentation context; `begin` a draft for each
instance (`intake.draft`), whose row the writer makes (`intake.writer`).  Nothing here
or in a draft raises for what a peer, the disk or the index does: it becomes the status
of the answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress

from appliance.dicom import part10
from appliance.dicom.walker import Familiar
from appliance.disk.commit import Commit
from appliance.disk.folders import Folders
from appliance.disk.incoming import new_name
from appliance.disk.layout import Layout
from appliance.disk.part_file import PartFile, gives_its_group
from appliance.disk.sync import plain_errors
from appliance.index.database import Database
from appliance.intake.arrived import Sender
from appliance.intake.arriving import Origin
from appliance.intake.draft import Answer, Draft
from appliance.intake.room import Room
from appliance.intake.take import Intake
from appliance.intake.tally import Tally
from appliance.intake.writer import Writer
from appliance.settings import Receiver

_MOST_FAMILIAR = 64

__all__ = ["Answer", "Draft", "Way", "Ways"]


class Ways:
    """What all direct associations of one process share."""

    def __init__(
        self,
        db: Database,
        layout: Layout,
        node_ae_title: str,
        rules: Callable[[], Receiver],
        writer: Writer,
    ) -> None:
        self.node_ae_title = node_ae_title
        self.rules = rules
        self.writer = writer
        self.slow = Intake(db, layout, node_ae_title, rules)
        self.incoming = self.slow.incoming
        self.room = Room(layout, rules)
        self.folders = Folders(layout)
        others = [layout.jobs, layout.logs]
        if db.file is not None:
            others.append(db.file)
        self.commit = Commit(layout, tuple(others))
        writer.tells_of(self.commit)
        self._familiar: dict[tuple[str, str, str], Familiar] = {}
        with plain_errors("incoming/ cannot be used"):
            self.mends_owner = not gives_its_group(self.incoming.descriptor)

    def way(
        self,
        sender: Sender,
        level: str | None,
        abstract_syntax_uid: str,
        transfer_syntax_uid: str,
        tally: Tally,
    ) -> Way:
        """Give the way of one presentation context; `level` as in `Intake.keep`."""
        return Way(self, Origin(sender, level, tally), abstract_syntax_uid, transfer_syntax_uid)

    def lend_familiar(self, kind: tuple[str, str, str]) -> Familiar:
        """Give what was learned of a sender's images of a kind, to one way at a time."""
        return self._familiar.pop(kind, None) or Familiar()

    def take_back(self, kind: tuple[str, str, str], familiar: Familiar) -> None:
        """Keep what was learned, as long as not too many others are."""
        self._familiar[kind] = familiar
        with suppress(KeyError, RuntimeError, StopIteration):  # another thread was as fast
            while len(self._familiar) > _MOST_FAMILIAR:
                del self._familiar[next(iter(self._familiar))]

    def close(self) -> None:
        """Let this process's folder in incoming/ go; the writer is closed before."""
        self.slow.close()
        self.commit.close()


class Way:
    """One presentation context of one association."""

    def __init__(
        self, ways: Ways, origin: Origin, abstract_syntax_uid: str, transfer_syntax_uid: str
    ) -> None:
        self.ways = ways
        self.origin = origin
        self.abstract_syntax_uid = abstract_syntax_uid
        self.transfer_syntax_uid = transfer_syntax_uid
        calling_ae_title = origin.sender.calling_ae_title
        self._kind = calling_ae_title, abstract_syntax_uid, transfer_syntax_uid
        # What its images have in common: they are walked faster.
        self.familiar = ways.lend_familiar(self._kind)
        self._name = new_name(origin.sender.association_id)
        self._numbers = itertools.count()
        self._prefixes: dict[str, part10.Prefix] = {}

    def begin(self, sop_class_uid: str, sop_instance_uid: str) -> Draft:
        """Begin an instance, once the command set of its request is whole; never raises."""
        return Draft(self, sop_class_uid.strip("\0 "), sop_instance_uid.strip("\0 "))

    def close(self) -> None:
        """Leave what was learned to the next association of this sender; no draft is open."""
        self.ways.take_back(self._kind, self.familiar)

    def new_file(self) -> PartFile:
        """Make the next file in incoming/; OSError."""
        name = f"{self._name}{next(self._numbers):08x}"
        return PartFile(self.ways.incoming.descriptor, name, mend_owner=self.ways.mends_owner)

    def head(self, sop_class_uid: str, sop_instance_uid: str) -> bytes:
        """Give what stands before the data set in the file."""
        prefix = self._prefixes.get(sop_class_uid)
        if prefix is None:
            # One for each SOP Class that a peer names, which is one in a sane association.
            self._prefixes.clear()
            prefix = part10.Prefix(self.meta(sop_class_uid, ""))
            self._prefixes[sop_class_uid] = prefix
        return prefix.of(sop_instance_uid)

    def meta(self, sop_class_uid: str, sop_instance_uid: str) -> part10.FileMeta:
        """Give the File Meta of an instance (PS3.10 7.1)."""
        sender = self.origin.sender
        return part10.FileMeta(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
            source_ae_title=self.ways.node_ae_title,
            sending_ae_title=sender.calling_ae_title,
            receiving_ae_title=sender.called_ae_title,
            source_address=sender.local,
            sending_address=part10.address_of(sender.address, sender.port),
            receiving_address=sender.local,
        )
