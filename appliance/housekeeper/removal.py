"""Remove files whose rows are gone, and what no row speaks of any more.

Rows go first, files after: a crash between the two leaves files without a row,
which `remove_orphans` finds.  A file is unlinked inside a write transaction that has
seen that no row names it: intake, which registers an instance under the same lock,
either has committed its row before, or finds the name free after.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.disk import incoming
from appliance.disk.layout import Layout, sop_name
from appliance.index import retention as index
from appliance.index.database import Database

ORPHAN_SECONDS = 600.0
_PORTION = 200


def remove_without_row(db: Database, layout: Layout, paths: Sequence[str]) -> int:
    """Remove those of these files below data_root that no row names; how many."""
    removed = 0
    for start in range(0, len(paths), _PORTION):
        some = paths[start : start + _PORTION]
        with db.write() as connection:
            for path in some:
                # Intake locks by the SOP Instance UID.
                db.lock(connection, f"instance {sop_name(path)}")
            for path in index.unknown_paths(connection, some):
                with contextlib.suppress(FileNotFoundError):
                    (layout.root / path).unlink()
                    removed += 1
    for folder in {(layout.root / path).parent for path in paths}:
        _remove_empty(folder, layout.studies)
    return removed


def remove_orphans(db: Database, layout: Layout, age_seconds: float = ORPHAN_SECONDS) -> int:
    """Remove stored files that have had no row for a while; how many there were."""
    before = time.time() - age_seconds
    removed = 0
    for some in _in_portions(_old_files(layout.studies, before)):
        paths = [str(path.relative_to(layout.root)) for path in some]
        with db.read() as connection:
            unknown = sorted(index.unknown_paths(connection, paths))
        if unknown:
            removed += remove_without_row(db, layout, unknown)
    return removed


def has_leftovers(layout: Layout, age_seconds: float = ORPHAN_SECONDS) -> bool:
    """Say whether a dead process left something in incoming/ a while ago."""
    before = time.time() - age_seconds
    if any(_is_old(path, before) for path in layout.incoming.glob("job-*")):
        return True
    return any(
        _is_old(path, before)
        for folder in incoming.abandoned(layout.incoming)
        for path in folder.iterdir()
    )


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
            # The change time: one that was linked here just now is young, however old it is.
            if _is_old(Path(path) / name, before):
                yield Path(path) / name
        if not names:
            _remove_empty(Path(path), folder, before)


def _is_old(path: Path, before: float) -> bool:
    try:
        return path.lstat().st_ctime < before
    except FileNotFoundError:
        return False


def _remove_empty(folder: Path, top: Path, before: float | None = None) -> None:
    """Remove a folder and those above it while they are empty, and unchanged since `before`."""
    while folder != top and top in folder.parents:
        try:
            if before is not None and folder.stat().st_mtime > before:
                return
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _in_portions(files: Iterator[Path]) -> Iterator[list[Path]]:
    portion: list[Path] = []
    for file in files:
        portion.append(file)
        if len(portion) == _PORTION:
            yield portion
            portion = []
    if portion:
        yield portion
