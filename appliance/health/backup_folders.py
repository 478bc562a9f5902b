"""A folder full of backups: which are whole, which are the rest of one that was killed.

A backup is made under a name with `.part` and renamed when all of it is durable.  While
it is made its manifest, empty still, is locked: so a later one knows what nobody
makes any more, and removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appliance.disk.sync import sync_path
from appliance.disk.trees import remove_tree
from appliance.errors import BackupError, DiskError

MANIFEST = "manifest.json"
NIGHTLY = "nightly-"
_PART = ".part"
_OURS = ("brookbox-", NIGHTLY, "before-")
_YOUNG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Found:
    """A whole backup, as its manifest tells; nothing of it is checked yet."""

    folder: Path
    made_at: datetime


def found_in(folder: Path) -> list[Found]:
    """List the whole backups in a folder, the newest last."""
    found = []
    for manifest in folder.glob(f"*/{MANIFEST}"):
        if manifest.parent.name.endswith(_PART):
            continue
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            made_at = datetime.fromisoformat(json.loads(manifest.read_text("utf-8"))["made_at"])
            found.append(Found(manifest.parent, made_at.astimezone(UTC)))
    return sorted(found, key=lambda one: (one.made_at, one.folder.name))


@contextlib.contextmanager
def making(made: Path) -> Iterator[Path]:
    """Lend a new folder beside `made` to write to, which becomes `made` if all goes well.

    The writer must have synced all that is in it.  After an error nothing is left: not
    even those folders above it that were not there before.
    """
    if made.exists():
        raise BackupError(f"{made} is there already", remedy="wait a second, or remove it")
    part = made.with_name(made.name + _PART)
    new = _make_above(part)
    try:
        remove_leftovers(part.parent)
        with _claimed(part):
            try:
                yield part
                part.rename(made)
                sync_path(made.parent)
            finally:
                remove_tree(part)
    except BaseException:
        for folder in new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def leftovers(folder: Path) -> list[Path]:
    """List what backups that did not end left in a folder, and those still being made."""
    return sorted(
        path
        for path in folder.glob(f"*{_PART}")
        if path.name.startswith(_OURS) and path.is_dir() and not path.is_symlink()
    )


def remove_leftovers(folder: Path) -> None:
    """Remove what backups left that were killed; one that is still being made stays."""
    for part in leftovers(folder):
        if _is_left(part):
            with contextlib.suppress(DiskError):  # another user's: it is named after
                remove_tree(part)


def remove_old_nightly(folder: Path, keep: int) -> None:
    """Remove the oldest nightly backups, but for so many; DiskError when one cannot be."""
    nightly = [one.folder for one in found_in(folder) if one.folder.name.startswith(NIGHTLY)]
    for path in nightly[: max(len(nightly) - keep, 0)]:
        remove_tree(path)


@contextlib.contextmanager
def _claimed(part: Path) -> Iterator[None]:
    """Make the folder and hold its manifest's lock."""
    try:
        part.mkdir(mode=0o700)
    except FileExistsError as error:
        raise BackupError(
            f"{part} is there: a backup of this second is being made", remedy="wait a second"
        ) from error
    descriptor = os.open(part / MANIFEST, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: it is only named
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_left(part: Path) -> bool:
    try:
        descriptor = os.open(part / MANIFEST, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # Either killed at its first step, or one that is at it right now.
        return time.time() - part.stat().st_mtime > _YOUNG_SECONDS
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _make_above(part: Path) -> list[Path]:
    """Make the folders above, durably; give the new ones, the deepest first."""
    new = [path for path in part.parents if not path.exists()]
    part.parent.mkdir(parents=True, exist_ok=True)
    for folder in new:
        sync_path(folder.parent)
    return new
