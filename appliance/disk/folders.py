"""Series folders below studies/, held open: a name is made in one without walking to it.

One object for each receiving process, called by the direct road.  A folder may be
renamed into trash/ or removed meanwhile: `is_in_place` says so, and the row of an
instance is only made while it is.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path

from appliance.disk.layout import Layout, instance_path
from appliance.disk.sync import plain_errors, sync_file, sync_path

_MOST_OPEN = 200


class Folder:
    """One open series folder; closed when nobody holds it any more."""

    __slots__ = ("_is_durable", "_parents", "descriptor", "path", "relative", "used_at")

    def __init__(self, root: Path, relative: str) -> None:
        """Open it, and make it where it is not there; OSError."""
        self.relative = relative
        self.path = root / relative
        self.descriptor = -1
        self.used_at = 0.0  # monotonic
        self._is_durable = False
        self._parents = [root / parent for parent in Path(relative).parents]
        try:
            self.descriptor = _opened(self.path)
        except FileNotFoundError:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.descriptor = _opened(self.path)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)

    def sync(self) -> None:
        """Sync the names in it, and once the folders that lead to it; SyncFailed, DiskError."""
        sync_file(self.descriptor)
        if not self._is_durable:
            for parent in self._parents:
                sync_path(parent)
            self._is_durable = True

    def is_in_place(self) -> bool:
        """Say whether it still stands under its own name."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), self.path.stat())
        except OSError:
            return False


class Folders:
    """The series folders that this process made names in last."""

    def __init__(self, layout: Layout) -> None:
        self._root = layout.root
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], Folder] = OrderedDict()

    def find(self, study_uid: str, series_uid: str) -> Folder:
        """Give the folder of a series; DiskError, NoSpace."""
        key = study_uid, series_uid
        folder = self._open.get(key)  # the hot path: a lock would be dearer than this
        if folder is not None:
            folder.used_at = time.monotonic()
            return folder
        relative = instance_path(study_uid, series_uid, "0").rpartition("/")[0]
        with plain_errors("A series folder could not be made"):
            folder = Folder(self._root, relative)
        folder.used_at = time.monotonic()
        with self._lock:
            self._open[key] = folder
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return folder

    def forget(self, folder: Folder) -> None:
        """Open a folder anew the next time: it is not where it was."""
        with self._lock:
            for key, one in list(self._open.items()):
                if one is folder:
                    del self._open[key]

    def close_unused(self, seconds: float) -> None:
        """Close what no name was made in for so long; it is opened again when one is."""
        before = time.monotonic() - seconds
        with self._lock:
            for key, one in list(self._open.items()):
                if one.used_at < before:
                    del self._open[key]


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
