"""Kept instances: how a file gets its name below `studies/`, durably, replacing nothing.

Called by intake only.  A name is made with link(2), which refuses where rename
would replace.  `link` and `sync` are two calls, since a second copy of a known
instance is synced without being linked.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from appliance.dicom import part10
from appliance.dicom.header import opened
from appliance.disk.layout import Layout, older_names
from appliance.disk.sync import plain_errors, sync_path
from appliance.errors import CannotUnderstand

_MOST_REMEMBERED = 10_000
_CHUNK = 1 << 18


class Studies:
    """The store of one process."""

    def __init__(self, layout: Layout) -> None:
        self._root = layout.root
        # Series folders whose own name, and their parents', this process has synced.
        # One that was removed since and made again by another process is synced by
        # that process; ext4 and XFS commit the parents with the folder in any case.
        self._durable: set[Path] = set()

    def path(self, relative: str) -> Path:
        """Give the place of a file below data_root."""
        return self._root / relative

    def link(self, source: Path, relative: str) -> bool:
        """Give a synced file its name; False when the name is taken.  NoSpace, DiskError."""
        target = self._root / relative
        with plain_errors("An instance could not be named"):
            try:
                os.link(source, target)
            except FileNotFoundError:
                self._durable.discard(target.parent)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                return self._link_again(source, target)
            except FileExistsError:
                return False
            return True

    def sync(self, relative: str) -> None:
        """Sync the name, and every folder that leads to it, as far as needed."""
        folder = (self._root / relative).parent
        sync_path(folder)
        if folder in self._durable:
            return
        for parent in folder.relative_to(self._root).parents:
            sync_path(self._root / parent)
        if len(self._durable) >= _MOST_REMEMBERED:
            self._durable.clear()
        self._durable.add(folder)

    def holds(self, relative: str, source: Path, dataset_sha256: str) -> bool:
        """Say whether the name holds this very file, or another with the same data set."""
        target = self._root / relative
        try:
            return target.samefile(source) or dataset_digest(target) == dataset_sha256
        except (FileNotFoundError, CannotUnderstand):
            return False

    def replace_unregistered(self, relative: str, source: Path, aside: Path) -> None:
        """Give a name to `source`; a file of no row that has it is moved to `aside`.

        Only in the transaction that inserted the name's row, under the instance's lock:
        nobody else can register the name then.
        """
        self.set_aside(relative, aside)
        self.link(source, relative)
        self.sync(relative)

    def older_versions(self, relative: str) -> list[str]:
        """List the contents that a stored instance had before, as far as their names are left."""
        return [name for name in older_names(relative) if (self._root / name).exists()]

    def set_aside(self, relative: str, aside: Path) -> bool:
        """Move a file that no row names to `aside`, durably; False when it is gone already."""
        source = self._root / relative
        with plain_errors("An older content could not be set aside"):
            try:
                source.rename(aside)
            except FileNotFoundError:
                return False
        sync_path(aside.parent)
        sync_path(source.parent)
        return True

    def unlink_if_same(self, relative: str, source: Path) -> None:
        """Take a name away again if it is that of `source`'s file."""
        target = self._root / relative
        with suppress(FileNotFoundError):
            if target.samefile(source):
                target.unlink()

    @staticmethod
    def _link_again(source: Path, target: Path) -> bool:
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        return True


def dataset_digest(path: Path) -> str:
    """Give the SHA-256 of a stored file's data set, without File Meta."""
    with opened(path) as view:
        _, start = part10.read_meta(view)
        with view[start:] as data_set:
            return hashlib.sha256(data_set).hexdigest()


def have_same_data_set(one: Path, other: Path) -> bool:
    """Say whether two files hold the same data set, byte for byte; OSError, CannotUnderstand.

    Cheaper than a digest of each, and other threads run meanwhile.
    """
    with one.open("rb", buffering=0) as mine, other.open("rb", buffering=0) as others:
        mine.seek(part10.read_meta(one)[1])
        others.seek(part10.read_meta(other)[1])
        while chunk := mine.read(_CHUNK):
            if others.read(len(chunk)) != chunk:
                return False
        return not others.read(1)
