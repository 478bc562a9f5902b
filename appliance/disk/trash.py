"""`trash/`: what is being erased, one folder for each erasure that has not ended.

It holds the erasure's journal, which says what goes, and what was renamed into it.
What stands there is nobody's any more.  One erasure works at a time: it holds a lock
that the kernel gives back when its process dies, whatever killed it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.disk.layout import Layout
from appliance.disk.sync import plain_errors, sync_file, sync_path
from appliance.disk.trees import remove_tree
from appliance.errors import ErasureError

_JOURNAL = "erasure.json"
_LOCK = "lock"
_PART = ".part"
_ERASURE = re.compile(r"[0-9a-f]{8,64}")
_LOOK_SECONDS = 0.1


@contextlib.contextmanager
def held(layout: Layout, patience_seconds: float) -> Iterator[None]:
    """Be the one that erases; ErasureError when another still is after so long."""
    with plain_errors("trash/ cannot be used"):
        layout.trash.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(layout.trash / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience_seconds
        while not _is_locked(descriptor):
            if time.monotonic() >= deadline:
                raise ErasureError(
                    "another erasure is at work", remedy="wait for it, then ask again"
                )
            time.sleep(_LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)


def is_free(layout: Layout) -> bool:
    """Say whether nobody erases just now."""
    try:
        with held(layout, 0):
            return True
    except ErasureError:
        return False


def begun(layout: Layout) -> list[str]:
    """Name the erasures that have not ended, the oldest first."""
    if not layout.trash.is_dir():
        return []
    return sorted(one.name for one in layout.trash.iterdir() if _ERASURE.fullmatch(one.name))


def write_journal(layout: Layout, erasure: str, facts: dict[str, Any]) -> None:
    """Write, durably, what an erasure is about; from the first time on it has begun."""
    folder = _folder(layout, erasure)
    with plain_errors("The erasure's journal could not be written"):
        if not folder.exists():
            part = folder.with_name(erasure + _PART)
            part.mkdir(mode=0o700, exist_ok=True)
            _write(part / _JOURNAL, facts)
            part.rename(folder)
            sync_path(layout.trash)
            return
        new = folder / (_JOURNAL + _PART)
        _write(new, facts)
        new.replace(folder / _JOURNAL)
    sync_path(folder)


def read_journal(layout: Layout, erasure: str) -> dict[str, Any]:
    """Read what an erasure is about; ErasureError when that cannot be read."""
    try:
        facts = json.loads((_folder(layout, erasure) / _JOURNAL).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ErasureError(
            f"the journal of erasure {erasure} cannot be read: {error}",
            remedy=f"remove {_folder(layout, erasure)}, then run brookbox forget anew for the same "
            "patient or study",
        ) from error
    assert isinstance(facts, dict)
    return facts


def take(layout: Layout, erasure: str, path: Path) -> bool:
    """Rename a file or a folder into an erasure's folder, durably; False when it is not there."""
    name = str(path.relative_to(layout.root)).replace("/", "_")
    folder, number = _folder(layout, erasure), 0
    while os.path.lexists(target := folder / f"{name}.{number}"):
        number += 1
    with plain_errors(f"{path.name} could not be put into trash/"):
        try:
            path.rename(target)
        except FileNotFoundError:
            return False
        sync_path(folder)
        sync_path(path.parent)
    return True


def remove_taken(layout: Layout, erasure: str) -> None:
    """Remove all that was taken; DiskError when something cannot be.  The journal stays."""
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(_folder(layout, erasure).iterdir()):
            if path.name != _JOURNAL:
                remove_tree(path)


def end(layout: Layout, erasure: str) -> None:
    """Remove what is left of an erasure: it has ended."""
    remove_tree(_folder(layout, erasure))
    with plain_errors("trash/ cannot be synced"):
        sync_path(layout.trash)


def remove_stillborn(layout: Layout) -> None:
    """Remove what erasures left that were killed before they began."""
    for path in layout.trash.glob(f"*{_PART}"):
        remove_tree(path)


def _folder(layout: Layout, erasure: str) -> Path:
    return layout.trash / erasure


def _write(path: Path, facts: dict[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(facts, file)
        file.flush()
        sync_file(file.fileno())
    sync_path(path.parent)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
