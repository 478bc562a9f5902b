"""What came, or stood, and is not kept as an instance: the bytes, and why, in words.

`quarantine/<id>.dcm` is the file, `<id>.json` says who sent it, when, and what was
wrong.  Written by intake; read and removed by web, cli and housekeeper.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from appliance.disk.layout import Layout
from appliance.disk.sync import plain_errors, sync_file, sync_path
from appliance.errors import NotFound, QuarantineError
from appliance.ids import new_id

_UNREADABLE: dict[str, Any] = {
    "reason": "Its words cannot be read: who sent it, and why it is here, is not known.",
    "remedy": "look at the file; remove it, or have it tried again",
    "status": 0x0110,
    "kind": "leftover",
    **dict.fromkeys(
        ("called_ae_title", "calling_ae_title", "address", "association_id", "sop_class_uid",
         "sop_instance_uid", "transfer_syntax_uid"), "",
    ),
}  # fmt: skip
_MOMENTS = ("received_at", "tried_at", "last_at")
_TRY = re.compile(r"q([0-9a-f]{23})-\d{1,7}")


class Kind(StrEnum):
    """Why a file is in quarantine, in one word; what a person can do about it depends on it."""

    REFUSED = "refused"  # not kept, and the sender was told so
    CONFLICT = "conflict"  # another content under the UID of an instance that is kept
    HELD = "held"  # another patient under a known study, or a known series in another study
    REPLACED = "replaced"  # what was kept until another content took its place
    LEFTOVER = "leftover"  # it stood under an instance's name without ever being registered


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
    kind: Kind = Kind.REFUSED
    tries: int = 0  # how often a person had it tried again
    tried_at: datetime | None = None
    tried: str = ""  # why it stayed here at the last try
    times: int = 1  # how often it came, always for this reason
    last_at: datetime | None = None  # when it came again; None when it never did
    dataset_sha256: str = ""  # of the bytes that came, without File Meta

    @property
    def try_name(self) -> str:
        """Name its last try, as an association is named: what comes of it is known by that."""
        return f"q{self.id}-{self.tries}"

    @property
    def newest_at(self) -> datetime:
        """Say when it came last."""
        return self.last_at or self.received_at


def keep(layout: Layout, source: Path, entry: Entry) -> str:
    """Link a file from incoming/ into quarantine, durably; give its id.

    The words come first, so that no file stands there without them.  What came out of
    quarantine to be tried again stays the entry that it was, with the words of today.
    """
    if (before := _tried(layout, entry.association_id)) is not None:
        today = dataclasses.replace(
            before,
            kind=entry.kind,
            reason=entry.reason,
            remedy=entry.remedy,
            tried=entry.reason,
        )
        _write_words(layout, today)
        return before.id
    id = new_id()
    with plain_errors("An instance could not be put into quarantine"):
        size = source.stat().st_size
        _write_words(layout, dataclasses.replace(entry, id=id, size_bytes=size))
        os.link(source, file_of(layout, id))
    sync_path(layout.quarantine)
    return id


def is_try(association_id: str) -> bool:
    """Say whether this names a try of an entry: nobody sent anything then."""
    return _TRY.fullmatch(association_id) is not None


def begin_try(layout: Layout, id: str, now: datetime) -> Entry:
    """Count a try before it is made; NotFound when there is none of that id."""
    entry = read(layout, id)
    entry = dataclasses.replace(entry, tries=entry.tries + 1, tried_at=now, tried="")
    _write_words(layout, entry)
    return entry


def note_failed(layout: Layout, id: str, why: str) -> None:
    """Say why an entry stays where it is after a try."""
    _write_words(layout, dataclasses.replace(read(layout, id), tried=why))


def note_resent(layout: Layout, id: str, came: Entry) -> bool:
    """Count what came once more and is there already; False when somebody just removed it.

    Only while the entry is claimed, and after its file was read: what came is dropped then.
    """
    before = read(layout, id)
    counted = dataclasses.replace(
        before, times=before.times + 1, last_at=came.received_at, status=came.status
    )
    _write_words(layout, counted)
    if file_of(layout, id).exists():  # whoever removes it from now on removes what came, too
        return True
    file_of(layout, id).with_suffix(".json").unlink(missing_ok=True)
    return False


@contextlib.contextmanager
def claimed(layout: Layout, id: str) -> Iterator[None]:
    """Let nobody else try, count or outdate an entry; QuarantineError when somebody does just now.

    The kernel gives the lock back when its process dies, whatever killed it.
    """
    read(layout, id)
    try:
        descriptor = os.open(file_of(layout, id), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _none_of(id) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise QuarantineError(
                f"{id} is being tried just now", remedy="wait a moment, then look again"
            ) from error
        yield
    finally:
        os.close(descriptor)


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


def read(layout: Layout, id: str) -> Entry:
    """Look one up; NotFound when there is none of that id."""
    words = file_of(layout, id).with_suffix(".json")
    if not words.exists():
        raise _none_of(id)
    return _read_words(words)


def _none_of(id: str) -> NotFound:
    remedy = "look at the page Quarantine, or into quarantine/ below data_root"
    return NotFound(f"quarantine has no {id}", remedy=remedy)


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


def remove_outdated(layout: Layout, id: str, before: datetime) -> bool:
    """Remove what did not come again since then; False when it did.

    Raises NotFound, and QuarantineError while somebody is at it.
    """
    with claimed(layout, id):
        if read(layout, id).newest_at >= before:
            return False
        remove(layout, id)
    return True


def _tried(layout: Layout, association_id: str) -> Entry | None:
    """Find the entry whose try this name is; None when it is an association's, or it is gone."""
    found = _TRY.fullmatch(association_id)
    try:
        return read(layout, found[1]) if found else None
    except NotFound:
        return None


def _write_words(layout: Layout, entry: Entry) -> None:
    """Write the words whole, in the place of those that were there."""
    facts = dataclasses.asdict(entry)
    moments = {name: facts[name].isoformat() for name in _MOMENTS if facts[name] is not None}
    path = file_of(layout, entry.id).with_suffix(".json")
    part = path.with_name(f"{path.name}.{new_id()}.part")
    with plain_errors("The words of a quarantined file could not be written"):
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(facts | moments, file, indent=1)
            file.flush()
            sync_file(file.fileno())
        part.rename(path)
    sync_path(layout.quarantine)


def _read_words(path: Path) -> Entry:
    try:
        facts = json.loads(path.read_text("utf-8"))
        return _of_words(facts, path)
    except (ValueError, KeyError, TypeError):
        # Cut off, or written over by a person: the file beside it is there all the same.
        return _of_words({**_UNREADABLE, "id": path.stem, "received_at": _changed(path)}, path)


def _of_words(facts: dict[str, Any], path: Path) -> Entry:
    for name in _MOMENTS:
        facts[name] = datetime.fromisoformat(facts[name]) if facts.get(name) else None
    # Entries up to 0.2.0 say no kind: what was answered 0x0000 met another content then.
    facts["kind"] = Kind(facts.get("kind") or ("refused" if facts["status"] else "conflict"))
    known = {field.name for field in dataclasses.fields(Entry)}
    entry = Entry(**{name: value for name, value in facts.items() if name in known})
    size = path.with_suffix(".dcm").stat().st_size if not entry.size_bytes else entry.size_bytes
    return dataclasses.replace(entry, size_bytes=size)


def _changed(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
