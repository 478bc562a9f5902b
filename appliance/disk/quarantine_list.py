"""The list of what is in quarantine, in pages: of ten thousand entries only those shown are read.

An entry's id sorts by the time it was put aside.  Its kind stands in its words, which
are read once: a process that lives on, such as the web, remembers it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance import ids
from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.errors import NotFound

# A folder's change time is that coarse: what changes within it might not be seen.
_COARSE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries, newest first; `older` names the last one when there are more."""

    entries: tuple[Entry, ...]
    older: str = ""


class QuarantineList:
    """What one process knows of it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._seen_at = -1  # the folder's change time at the last look, in ns
        self._words: dict[str, int] = {}  # id: when its words were written, in ns
        self._kinds: dict[str, tuple[int, Kind]] = {}
        self._lock = threading.Lock()

    def page(self, kind: Kind | None = None, before: str = "", limit: int = 100) -> Page:
        """Give the newest entries, of one kind or of all, put aside before the one named."""
        found: list[Entry] = []
        for id in self._of_kind(kind):
            if before and id >= before:
                continue
            if len(found) == limit:
                return Page(tuple(found), found[-1].id)
            found += self._read(id)
        return Page(tuple(found))

    def counts(self) -> dict[Kind, int]:
        """Count the entries of each kind."""
        counted = Counter(self._known().values())
        return {kind: counted[kind] for kind in Kind}

    def count_since(self, since: datetime) -> int:
        """Count what was put aside since then and does not wait for a person to judge."""
        first = f"{int(since.timestamp() * 1000):011x}"
        kinds = self._known()
        return sum(id >= first and kind is not Kind.HELD for id, kind in kinds.items())

    def put_aside_before(self, moment: datetime) -> Iterator[Entry]:
        """Give the entries that came before a moment and never since, oldest first."""
        with self._lock:
            self._look()
            known = sorted(self._words)
        for id in known:
            try:
                if ids.made_at(id) >= moment:
                    break
            except ValueError:  # a file of somebody else's
                continue
            yield from (one for one in self._read(id) if one.newest_at < moment)

    def strays(self) -> list[Path]:
        """List the files that belong to no entry: what a crash left, or somebody else."""
        with self._lock:
            self._look()
            known = self._words.keys()
        return [
            path
            for path in sorted(self._layout.quarantine.iterdir())
            if path.is_file() and (path.stem not in known or path.suffix not in (".dcm", ".json"))
        ]

    def _of_kind(self, kind: Kind | None) -> list[str]:
        if kind is None:
            with self._lock:
                self._look()
                return sorted(self._words, reverse=True)
        return sorted((id for id, of in self._known().items() if of is kind), reverse=True)

    def _known(self) -> dict[str, Kind]:
        """Map every entry to its kind; only words that are new since the last time are read."""
        with self._lock:
            self._look()
            self._kinds = {
                id: seen for id, seen in self._kinds.items() if self._words.get(id) == seen[0]
            }
            for id in self._words.keys() - self._kinds.keys():
                for entry in self._read(id):
                    self._kinds[id] = (self._words[id], entry.kind)
            return {id: kind for id, (_, kind) in self._kinds.items()}

    def _look(self) -> None:
        """Look into the folder when it has changed since the last look."""
        try:
            changed_at = self._layout.quarantine.stat().st_mtime_ns
        except FileNotFoundError:  # a node that was never started
            return
        if changed_at == self._seen_at:
            return
        words, files = {}, set()
        with os.scandir(self._layout.quarantine) as everything:
            for one in everything:
                name = Path(one.name)
                if name.suffix == ".dcm":
                    files.add(name.stem)
                elif name.suffix == ".json":
                    try:
                        words[name.stem] = one.stat().st_mtime_ns
                    except FileNotFoundError:  # somebody removed it meanwhile
                        continue
        self._words = {id: at for id, at in words.items() if id in files}
        is_over = time.time_ns() - changed_at > _COARSE_NS
        self._seen_at = changed_at if is_over else -1

    def _read(self, id: str) -> list[Entry]:
        try:
            return [quarantine.read(self._layout, id)]
        except (NotFound, FileNotFoundError):  # it was removed a moment ago
            return []


def newest(layout: Layout, limit: int, kind: Kind | None = None) -> tuple[Entry, ...]:
    """Give the newest entries once, for a process that does not live on."""
    return QuarantineList(layout).page(kind, limit=limit).entries
