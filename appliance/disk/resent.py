"""What is sent again and again, and is in quarantine already: counted there, not kept twice.

A modality that is answered with a failure sends again each night; so does one whose
instance is held for a person.  One object for each process that puts something aside.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry
from appliance.errors import NotFound, QuarantineError

# A sender that changes its instance each time must not make every one dearer than the last.
_MOST_COMPARED = 5


class Resent:
    """The way into quarantine for what may be there; remembers who sent what is there."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[str, tuple[int, str]] = {}  # id: hash of its way, digest
        self._lock = threading.Lock()

    def keep(self, source: Path, entry: Entry, is_same: Callable[[Path], bool]) -> str:
        """Count it on the entry that holds the same for the same reason, or put it aside.

        `is_same` reads a file of quarantine, and says whether all of what came is in it.
        Gives the entry's id.  Two that come in one moment may make two entries.
        """
        if not quarantine.is_try(entry.association_id):
            for id in self._on_the_same_way(entry)[:_MOST_COMPARED]:
                if self._is_counted(id, entry, is_same):
                    return id
        return quarantine.keep(self._layout, source, entry)

    def _is_counted(self, id: str, entry: Entry, is_same: Callable[[Path], bool]) -> bool:
        # An entry that is gone, or that a person has tried just now, is not counted on.
        with suppress(NotFound, QuarantineError), quarantine.claimed(self._layout, id):
            there = quarantine.read(self._layout, id)
            if (_way(there), there.kind, there.reason) == (_way(entry), entry.kind, entry.reason):
                is_there = is_same(quarantine.file_of(self._layout, id))
                return is_there and quarantine.note_resent(self._layout, id, entry)
        return False

    def _on_the_same_way(self, entry: Entry) -> list[str]:
        """List the entries of this instance from its sender to its receiver, newest first.

        Of all those the ones with its very bytes come in front.
        """
        way, digest = _known(entry)
        with self._lock:
            self._look()
            found = [(of == digest, id) for id, (one, of) in self._known.items() if one == way]
        return [id for _, id in sorted(found, reverse=True)]

    def _look(self) -> None:
        """Read the words that are new since the last time: what is known of them never changes."""
        with os.scandir(self._layout.quarantine) as names:
            there = {one.name.removesuffix(".json") for one in names if one.name.endswith(".json")}
        for id in self._known.keys() - there:
            del self._known[id]
        for id in there - self._known.keys():
            with suppress(NotFound, FileNotFoundError):
                self._known[id] = _known(quarantine.read(self._layout, id))


def _known(entry: Entry) -> tuple[int, str]:
    return hash(_way(entry)), entry.dataset_sha256


def _way(entry: Entry) -> tuple[str, str, str]:
    return entry.called_ae_title, entry.calling_ae_title, entry.sop_instance_uid
