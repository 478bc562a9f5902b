"""One instance that was answered and whose row is not committed yet.

Made by the direct road (`draft`), filed by the writer.  Its file in incoming/ stays
until then, so that a crash forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.dicom.header import Header
from appliance.disk.folders import Folder
from appliance.disk.incoming import Written
from appliance.disk.studies import dataset_digest
from appliance.intake.arrived import Arrived, Sender
from appliance.intake.tally import Tally


@dataclass(frozen=True, slots=True)
class Origin:
    """What all instances of one presentation context of an association have in common."""

    sender: Sender
    level: str | None
    tally: Tally


@dataclass(slots=True)  # frozen would cost the hot road as much as a system call
class Arriving:
    """An instance that waits for its row; `since` is monotonic.

    `folder` holds its name in studies/, None when that name was taken.
    """

    origin: Origin
    header: Header
    file: str  # a Path for each would be dear
    size_bytes: int
    folder: Folder | None
    at: datetime
    since: float

    @property
    def place(self) -> str:
        """Name its place below data_root; only with a `folder`."""
        assert self.folder is not None, "an instance without a name in studies/ has no place"
        return f"{self.folder.relative}/{self.header.sop_instance_uid}.dcm"

    def arrived(self) -> Arrived:
        """Give it as `Filing` takes it; its file is read to its end for the digest.

        Raises OSError.
        """
        return self.as_arrived(dataset_digest(Path(self.file)))

    def as_arrived(self, dataset_sha256: str) -> Arrived:
        """Give it as `Filing` takes it; "" only for who does not look at the digest."""
        sender = self.origin.sender
        path = Path(self.file)
        written = Written(path, self.size_bytes, dataset_sha256, sender.association_id)
        return Arrived(written, self.header, sender, self.origin.level, self.at)
