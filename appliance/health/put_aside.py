"""Move stored files that an index made again holds no row for into quarantine: nothing is lost.

Only after that index is in force: until then the one before may name them.  Each step may be
killed; whoever makes the index again finds the rest again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from appliance.dicom import part10
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.disk.studies import Studies
from appliance.errors import CannotUnderstand
from appliance.index.rebuild import CaughtUp, Rebuilt

Done = TypeVar("Done", Rebuilt, CaughtUp)

_NO_END = (
    "It is the result of a job of whose end there is no record: the index was made again from "
    "the files, and the job runs anew."
)
_REPLACED = (
    "It was kept until other content came under its SOP Instance UID; the index was made again "
    "from the files before it was put aside."
)
_LOOK = "remove it, once the job has made its results again"
_COMPARE = "compare it with the one that is kept; remove it when that is the right one"


def put_aside(layout: Layout, done: Done) -> Done:
    """Move results that are made again, and contents that were replaced; name those there were.

    Raises DiskError.
    """
    return dataclasses.replace(
        done,
        leftovers=_moved(layout, done.leftovers, Kind.LEFTOVER, _NO_END, _LOOK),
        older=_moved(layout, done.older, Kind.REPLACED, _REPLACED, _COMPARE),
    )


def _moved(
    layout: Layout, paths: Iterable[str], kind: Kind, reason: str, remedy: str
) -> tuple[str, ...]:
    studies, moved = Studies(layout), []
    for path in paths:
        file = studies.path(path)
        if file.is_file():
            aside = quarantine.describe(layout, _entry(file, kind, reason, remedy))
            studies.set_aside(path, aside)
            moved.append(path)
    return tuple(moved)


def _entry(file: Path, kind: Kind, reason: str, remedy: str) -> Entry:
    try:
        meta = part10.read_meta(file)[0]
    except CannotUnderstand:
        meta = part10.FileMeta("", "", "")
    return Entry(
        id="",
        reason=reason,
        remedy=remedy,
        status=0x0000,
        called_ae_title=meta.receiving_ae_title,
        calling_ae_title=meta.sending_ae_title,
        address=part10.host_of(meta.sending_address),
        association_id="",
        sop_class_uid=meta.sop_class_uid,
        sop_instance_uid=meta.sop_instance_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        received_at=datetime.fromtimestamp(file.stat().st_mtime, UTC),
        kind=kind,
    )
