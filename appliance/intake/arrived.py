"""An instance on its way in: who sent it, what is in the file, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from appliance.dicom.header import Header
from appliance.disk.incoming import Written
from appliance.disk.layout import instance_path


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
class Arrived:
    """A whole file in incoming/ that passed its checks; `level` None opens no arrival."""

    written: Written
    header: Header
    sender: Sender
    level: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of an instance; `note` is a sentence when there is something to say of it."""

    sop_instance_uid: str
    study_uid: str
    is_new: bool
    arrival_id: int | None
    note: str = ""
    is_returned: bool = False  # a result of ours that came back to the stream that made it
    is_held: bool = False  # not joined: it is in quarantine, for a person to judge
    is_conflict: bool = False  # it is in quarantine, and the first stays
    marks: tuple[str, ...] = ()  # codes of dicom.marks


def path_of(header: Header) -> str:
    """Name the place of an instance's first content below data_root."""
    return instance_path(header.study_uid, header.series_uid, header.sop_instance_uid)
