"""The direct road of one receiving process, without a network: instances in, rows out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset

from appliance import ids
from appliance.disk.layout import Layout
from appliance.index.arrivals import Association
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.intake.arrived import Sender
from appliance.intake.draft import Answer, Draft
from appliance.intake.tally import Tally
from appliance.intake.way import Ways
from appliance.intake.writer import Writer
from appliance.settings import Receiver
from tests.kit.waiting import wait_for
from tests.unit.intake.given import CT1, LITTLE, bytes_of

ROOMY = Receiver(reserve_gb=0, reserve_percent=0)
_PIECE = 1000


class Road:
    """What one process has of it; the writer's thread runs unless `is_written` is False."""

    def __init__(
        self, db: Database, layout: Layout, rules: Receiver = ROOMY, *, is_written: bool = True
    ) -> None:
        self.rules = rules
        self.writer = Writer(db, layout, lambda: self.rules)
        self.ways = Ways(db, layout, "BROOKBOX", lambda: self.rules, self.writer)
        self.tallies: dict[str, Tally] = {}
        if is_written:
            self.writer.start()

    def open(self, sender: Sender = CT1) -> Tally:
        """Have an association accepted."""
        self.tallies[sender.association_id] = Tally()
        self.writer.opened(
            Association(
                sender.association_id, sender.called_ae_title, sender.calling_ae_title,
                sender.address, str(ids.this_process()), datetime.now(UTC),
            )
        )  # fmt: skip
        return self.tallies[sender.association_id]

    def draft(self, ds: Dataset, sender: Sender = CT1, level: str | None = "study") -> Draft:
        """Begin an instance."""
        tally = self.tallies.get(sender.association_id) or self.open(sender)
        way = self.ways.way(sender, level, ds.SOPClassUID, LITTLE, tally)
        return way.begin(ds.SOPClassUID, ds.SOPInstanceUID)

    def send(
        self,
        ds: Dataset,
        folder: Path,
        sender: Sender = CT1,
        level: str | None = "study",
        data: bytes | None = None,
    ) -> Answer:
        """Send one in pieces; `data` instead of what the data set says."""
        view = memoryview(bytes_of(ds, folder) if data is None else data)
        draft = self.draft(ds, sender, level)
        for start in range(0, max(len(view) - _PIECE, 0), _PIECE):
            draft.write([view[start : start + _PIECE]])
        last = (len(view) - 1) // _PIECE * _PIECE if len(view) > _PIECE else 0
        answer = draft.keep([view[last:]])
        self.tallies[sender.association_id].note_answer(answer.status)
        return answer

    def end(self, sender: Sender = CT1, ending: Ending = Ending.RELEASED) -> None:
        """Have an association end."""
        tally = self.tallies.pop(sender.association_id)
        self.writer.ended(sender.association_id, ending, datetime.now(UTC), tally)

    def settle(self) -> None:
        """Wait until every row is written."""
        wait_for(lambda: self.writer.is_done, "all rows are written", 60)

    def close(self) -> None:
        """End as a process does."""
        self.writer.close()
        self.ways.close()
