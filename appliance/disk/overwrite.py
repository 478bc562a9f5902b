"""Write x over UIDs in files that other processes append to.

In place, at the offsets where they were found: such a file is never written anew, nor
cut, so that nothing is lost of what comes meanwhile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from appliance.disk.sync import plain_errors, sync_file

_TOLD = re.compile(rb"[0-9]+(?:\.[0-9]+)+")
_CHUNK = 1 << 20
_LONGEST = 256  # more than any UID: what a chunk cuts in two stands whole in the next
_MOST_ROUNDS = 10
_IN_PLACE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def overwrite_in_folder(folder: Path, uids: Collection[str]) -> int:
    """Write x over these UIDs in every file of a folder, but not below; how many there were.

    Files may be rotated meanwhile: it is looked through again until a round found the
    same files as the one before, and nothing in them.
    """
    total, before = 0, set[int]()
    for _ in range(_MOST_ROUNDS):
        files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
        seen = {path.stat().st_ino for path in files if path.exists()}
        count = overwrite_in(files, uids)
        total += count
        if not count and seen == before:
            break
        before = seen
    return total


def overwrite_in(files: Iterable[Path], uids: Collection[str]) -> int:
    """Write x over these UIDs in these files, those that are there; how many there were."""
    wanted = frozenset(uid.encode("ascii", "replace") for uid in uids)
    return sum(_overwrite(path, wanted) for path in files)


def _overwrite(path: Path, wanted: frozenset[bytes]) -> int:
    with plain_errors(f"{path.name} cannot be opened"):
        try:
            descriptor = os.open(path, _IN_PLACE)
        except FileNotFoundError:
            return 0
    count = at = 0
    try:
        # As long as it is now: it may grow as fast as it is read.
        size = os.fstat(descriptor).st_size
        while chunk := os.pread(descriptor, min(_CHUNK, size - at), at):
            is_last = len(chunk) < _CHUNK
            for found in _TOLD.finditer(chunk):
                is_cut = (at and not found.start()) or (not is_last and found.end() == _CHUNK)
                if found[0] in wanted and not is_cut:
                    os.pwrite(descriptor, b"x" * len(found[0]), at + found.start())
                    count += 1
            if is_last:
                break
            at += _CHUNK - _LONGEST
        if count:
            sync_file(descriptor)
    finally:
        os.close(descriptor)
    return count
