"""What came and could not be kept as an instance: the bytes, and why, in words.

`quarantine/<id>.dcm` is the file, `<id>.json` says who sent it, when, and what was
wrong.  Written by intake; read and removed by web, cli and housekeeper.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.disk.sync import plain_errors, sync_file, sync_path
from appliance.errors import NotFound
from appliance.ids import new_id


@dataclass(frozen=True, slots=True)
class Entry:
    """One quarantined file; no patient's name or ID, the UIDs are those of the request."""

    id: str
    reason: str
    remedy: str
    status: int  # what the sender was answered
    called_ae_title: str
    calling_ae_title: str
    address: str
    association_id: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    received_at: datetime
    size_bytes: int = 0


def keep(layout: Layout, source: Path, entry: Entry) -> str:
    """Link a file from incoming/ into quarantine, durably; give its id.

    The words come first, so that no file stands there without them.
    """
    id = new_id()
    with plain_errors("An instance could not be put into quarantine"):
        size = source.stat().st_size
        _write_words(layout, dataclasses.replace(entry, id=id, size_bytes=size))
        os.link(source, file_of(layout, id))
    sync_path(layout.quarantine)
    return id


def describe(layout: Layout, entry: Entry) -> Path:
    """Write the words for a file that is about to be moved in; give the file's path."""
    id = new_id()
    with plain_errors("A leftover could not be described"):
        _write_words(layout, dataclasses.replace(entry, id=id))
    return file_of(layout, id)


def entries(layout: Layout) -> list[Entry]:
    """List what is in quarantine, newest first."""
    found = []
    for words in sorted(layout.quarantine.glob("*.json"), reverse=True):
        if words.with_suffix(".dcm").exists():
            found.append(_read_words(words))
    return found


def count_since(layout: Layout, since: datetime) -> int:
    """Count what came into quarantine since then, without reading any of it."""
    moment, found = since.timestamp(), 0
    with contextlib.suppress(FileNotFoundError), os.scandir(layout.quarantine) as all_of_it:
        for one in all_of_it:
            with contextlib.suppress(FileNotFoundError):
                found += one.name.endswith(".json") and one.stat().st_mtime >= moment
    return found


def read(layout: Layout, id: str) -> Entry:
    """Look one up; NotFound when there is none of that id."""
    words = file_of(layout, id).with_suffix(".json")
    if not words.exists():
        raise NotFound(
            f"quarantine has no {id}",
            remedy="look at the page Quarantine, or into quarantine/ below data_root",
        )
    return _read_words(words)


def file_of(layout: Layout, id: str) -> Path:
    """Give the place of a quarantined file; NotFound when this is no id."""
    if not re.fullmatch(r"[0-9a-f]{1,64}", id):
        raise NotFound(
            "this is no quarantine id",
            remedy="look at the page Quarantine, or into quarantine/ below data_root",
        )
    return layout.quarantine / f"{id}.dcm"


def remove(layout: Layout, id: str) -> None:
    """Remove a file and its words; NotFound when there is none of that id."""
    read(layout, id)
    file = file_of(layout, id)
    file.unlink(missing_ok=True)
    file.with_suffix(".json").unlink(missing_ok=True)


def _write_words(layout: Layout, entry: Entry) -> None:
    facts = dataclasses.asdict(entry) | {"received_at": entry.received_at.isoformat()}
    path = file_of(layout, entry.id).with_suffix(".json")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
        file.flush()
        sync_file(file.fileno())


def _read_words(path: Path) -> Entry:
    facts = json.loads(path.read_text("utf-8"))
    facts["received_at"] = datetime.fromisoformat(facts["received_at"])
    known = {field.name for field in dataclasses.fields(Entry)}
    entry = Entry(**{name: value for name, value in facts.items() if name in known})
    size = path.with_suffix(".dcm").stat().st_size if not entry.size_bytes else entry.size_bytes
    return dataclasses.replace(entry, size_bytes=size)
