"""Remove a tree that a program left, whatever it left there.

No link is followed; folders that are closed to their owner are opened first.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from appliance.disk.sync import plain_errors
from appliance.ids import new_id

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 50


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder with all in it; nothing happens when there is none.

    Raises DiskError when something in it cannot be removed, such as a folder of
    another user.
    """
    with plain_errors(f"{path.name} could not be removed"), opened_folder(path.parent) as parent:
        if not _is_folder(parent, path.name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=parent)
            return
        with opened_folder(path.name, parent) as top:
            while names := _names(top):
                for name in names:
                    _remove(top, name, top, 0)
        os.rmdir(path.name, dir_fd=parent)


def _remove(folder: int, name: str, top: int, depth: int) -> None:
    if not _is_folder(folder, name):
        os.unlink(name, dir_fd=folder)
        return
    if depth == _DEEPEST:
        # Nested past what may be open at once: moved up, and removed with the next round.
        os.rename(name, f"deep-{new_id()}", src_dir_fd=folder, dst_dir_fd=top)
        return
    with opened_folder(name, folder) as own:
        for entry in _names(own):
            _remove(own, entry, top, depth + 1)
    # What was moved up from below has left this folder empty too.
    os.rmdir(name, dir_fd=folder)


def _is_folder(folder: int, name: str) -> bool:
    """Say whether an entry is a folder, opened to us if it was not; a link to one is none."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return False
    if status.st_mode & 0o700 != 0o700 and status.st_uid == os.geteuid():
        os.chmod(name, 0o700, dir_fd=folder)
    return True


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


@contextlib.contextmanager
def opened_folder(path: Path | str, folder: int | None = None) -> Iterator[int]:
    """Lend the descriptor of a folder, named by its path or in another; no link is followed."""
    number = os.open(path, FOLDER_FLAGS, dir_fd=folder)
    try:
        yield number
    finally:
        os.close(number)
