"""Make the kernel promise that bytes and names are on the disk.

Every return value counts.  After a failed sync the kernel may have thrown the
bytes away and forgotten the error, so that a second sync of the same descriptor
lies: nobody here tries again, the error goes up as SyncFailed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import DiskError, NoSpace, SyncFailed

_FULL = {errno.ENOSPC, errno.EDQUOT}
SYNC_REMEDY = "look at dmesg and at the disk, then restart the node: it takes no studies until then"


def sync_file(descriptor: int) -> None:
    """Sync an open file's bytes, length, owner and mode."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(error) from error
        raise SyncFailed(f"A file could not be synced: {error}.", remedy=SYNC_REMEDY) from error


def sync_data(descriptor: int) -> None:
    """Sync an open file's bytes and length, or an open folder's names."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(error) from error
        raise SyncFailed(f"A file could not be synced: {error}.", remedy=SYNC_REMEDY) from error


def sync_path(path: Path) -> None:
    """Sync a file, or the names in a folder."""
    with plain_errors(f"{path.name} could not be opened"):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Turn the system's errors into ours: NoSpace when the volume is full, else DiskError."""
    try:
        yield
    except OSError as error:
        raise plain_error(what, error) from error


def plain_error(what: str, error: OSError) -> DiskError:
    """Give our error for one of the system's, as `plain_errors` does."""
    if error.errno in _FULL:
        return no_space(error)
    return DiskError(f"{what}: {error.strerror or error}.", remedy="brookbox doctor")


def no_space(error: OSError) -> NoSpace:
    """Give our error for a full volume."""
    return NoSpace(
        f"The data volume is full: {error.strerror}.",
        remedy="make room on it, or lower housekeeper.high_percent; brookbox status shows what "
        "holds the space",
    )
