"""Remove files whose rows are gone, and what no row speaks of any more.

Rows go first, files after: a crash between the two leaves files without a row,
which `Orphans` finds.  A file goes only a while after its row, and only if no row
names it then: an instance that is received again in between has found the old
file in its place, and its new row needs it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.index import retention as index
from appliance.index.database import Database

GRACE_SECONDS = 30.0
ORPHAN_SECONDS = 600.0


@dataclass(slots=True)
class Pending:
    """Files of forgotten instances that wait for their removal."""

    grace_seconds: float = GRACE_SECONDS
    _waiting: list[tuple[float, Sequence[str], int]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """What their removal will free."""
        return sum(size for _, _, size in self._waiting)

    @property
    def files(self) -> int:
        """How many they are."""
        return sum(len(paths) for _, paths, _ in self._waiting)

    def add(self, paths: Sequence[str], size_bytes: int) -> None:
        """Have these files removed after the grace."""
        if paths:
            self._waiting.append((time.monotonic() + self.grace_seconds, paths, size_bytes))

    def remove_due(self, db: Database, layout: Layout) -> int:
        """Remove the files whose grace is over; how many."""
        due = [paths for at, paths, _ in self._waiting if at <= time.monotonic()]
        self._waiting = [one for one in self._waiting if one[0] > time.monotonic()]
        return sum(remove_without_row(db, layout, paths) for paths in due)


def remove_without_row(db: Database, layout: Layout, paths: Sequence[str]) -> int:
    """Remove those of these files below data_root that no row names; how many."""
    with db.read() as connection:
        unknown = index.unknown_paths(connection, paths)
    folders = set()
    for path in unknown:
        with contextlib.suppress(FileNotFoundError):
            (layout.root / path).unlink()
        folders.add((layout.root / path).parent)
    for folder in folders:
        _remove_empty(folder, layout.studies)
    return len(unknown)


def remove_orphans(db: Database, layout: Layout, age_seconds: float = ORPHAN_SECONDS) -> int:
    """Remove stored files that have had no row for a while; how many there were."""
    before = time.time() - age_seconds
    removed = 0
    for some in _in_portions(_old_files(layout.studies, before), 500):
        paths = [str(path.relative_to(layout.root)) for path in some]
        removed += remove_without_row(db, layout, paths)
    return removed


def remove_folder(folder: Path) -> None:
    """Remove a folder of a job and all in it, whatever modes a stream left there."""
    with contextlib.suppress(FileNotFoundError):
        for path, _, _ in os.walk(folder):
            with contextlib.suppress(OSError):
                Path(path).chmod(0o700)
        shutil.rmtree(folder)


def job_ids(layout: Layout) -> list[int]:
    """List the jobs that have a folder."""
    return sorted(int(entry.name) for entry in os.scandir(layout.jobs) if entry.name.isdigit())


def size_of(folder: Path) -> tuple[int, int]:
    """Add up the bytes and the files below a folder that are not linked from elsewhere too."""
    size, files = 0, 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                facts = (Path(path) / name).lstat()
                if facts.st_nlink == 1:
                    size, files = size + facts.st_blocks * 512, files + 1
    return size, files


def _old_files(folder: Path, before: float) -> Iterator[Path]:
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path) / name
            with contextlib.suppress(FileNotFoundError):
                # The change time: a file that was linked here just now is young, however old it is.
                if file.lstat().st_ctime < before:
                    yield file
        _remove_empty(Path(path), folder, before)


def _remove_empty(folder: Path, top: Path, before: float | None = None) -> None:
    """Remove a folder and those above it while they are empty, and unchanged since `before`."""
    while folder not in (top, top.parent):
        try:
            if before is not None and folder.stat().st_mtime > before:
                return
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _in_portions(files: Iterator[Path], size: int) -> Iterator[list[Path]]:
    portion: list[Path] = []
    for file in files:
        portion.append(file)
        if len(portion) == size:
            yield portion
            portion = []
    if portion:
        yield portion
