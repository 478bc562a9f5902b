"""What stands of a patient or a study in `quarantine/` and in `incoming/`: no row tells of it.

Each file is read.  One that cannot be is searched for the elements that would name the
patient or the study, since damaged files are what quarantine is for.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from appliance.dicom import part10
from appliance.dicom.header import opened
from appliance.dicom.names import uids_in
from appliance.disk import incoming
from appliance.disk.layout import Layout
from appliance.errors import InstanceRefused
from appliance.index.extent import Subject

# (0010,0020) Patient ID and (0020,000D) Study Instance UID, little and big endian.
_TAGS = re.compile(rb"\x10\x00\x20\x00|\x00\x10\x00\x20|\x20\x00\x0d\x00|\x00\x20\x00\x0d")
_PATIENT_ID = (b"\x10\x00\x20\x00", b"\x00\x10\x00\x20")
_BIG_ENDIAN = b"\x00"  # of a group below 0x0100, the first byte
_LONGEST = 1024


class Matcher:
    """Says whether a file is of what goes; `uids` are those of its studies and instances."""

    def __init__(self, subject: Subject, studies: Collection[str], uids: Collection[str]) -> None:
        self._patient = subject.value if subject.kind == "patient" else None
        self._studies = frozenset(studies)
        self._uids = frozenset(uids) | self._studies

    def is_of_it(self, path: Path) -> bool:
        """Read a DICOM file, whole or damaged; False also when it is not there."""
        try:
            _, header, _ = part10.read_file(path)
        except InstanceRefused:
            return self._is_named_in(path)
        except FileNotFoundError:
            return False
        if self._patient is not None and header.patient_id == self._patient:
            return True
        return header.study_uid in self._studies or header.sop_instance_uid in self._uids

    def is_told_in(self, words: str) -> bool:
        """Say whether a text names something of what goes."""
        return not self._uids.isdisjoint(uids_in(words)) or (
            self._patient is not None and json.dumps(self._patient) in words
        )

    def _is_named_in(self, path: Path) -> bool:
        with opened(path) as view:
            return any(
                value == self._patient if tag in _PATIENT_ID else value in self._studies
                for tag, value in _named_in(view)
            )


def in_quarantine(layout: Layout, matcher: Matcher) -> list[str]:
    """Name what is in quarantine of it, by its id."""
    found = set()
    for path in layout.quarantine.iterdir():
        if path.suffix == ".json":
            with suppress(FileNotFoundError):
                if matcher.is_told_in(path.read_text("utf-8", "replace")):
                    found.add(path.stem)
        elif path.stem not in found and path.is_file() and matcher.is_of_it(path):
            found.add(path.stem)
    return sorted(found)


def remove_from_quarantine(layout: Layout, matcher: Matcher, before: str) -> int:
    """Remove all of it that came before an erasure, given its id; how many entries there were.

    What came after is of a study that was sent anew.
    """
    found = [id for id in in_quarantine(layout, matcher) if not _is_younger(id, before)]
    for id in found:
        # The file first: words without a file are no entry.
        for path in sorted(layout.quarantine.glob(f"{id}.*")):
            path.unlink(missing_ok=True)
    return len(found)


def in_incoming(layout: Layout, matcher: Matcher) -> Iterator[Path]:
    """Give what dead processes left of it; what living ones are at is not looked at."""
    for folder in incoming.abandoned(layout.incoming):
        for path in incoming.files_in(folder):
            if matcher.is_of_it(path):
                yield path


def remove_from_incoming(layout: Layout, matcher: Matcher) -> int:
    """Remove all of it; how many files there were."""
    removed = 0
    for path in in_incoming(layout, matcher):
        path.unlink(missing_ok=True)
        removed += 1
    return removed


def _is_younger(id: str, other: str) -> bool:
    """Compare two names that `ids.new_id` made: they sort by time."""
    return len(id) == len(other) and id > other


def _named_in(view: memoryview) -> Iterator[tuple[bytes, str]]:
    """Give what looks like one of the elements, wherever it stands: its tag and its value."""
    for found in _TAGS.finditer(view):
        head = bytes(view[found.end() : found.end() + 4])
        order = ">" if found[0].startswith(_BIG_ENDIAN) else "<"
        if len(head) < 4:
            continue
        # Explicit has two letters before a length of two bytes, implicit a length of four.
        has_vr = head[:2].isalpha()
        length = struct.unpack(order + ("H" if has_vr else "L"), head[2:] if has_vr else head)[0]
        if length <= _LONGEST:
            value = bytes(view[found.end() + 4 : found.end() + 4 + length])
            yield found[0], value.decode("utf-8", "replace").strip(" \0")
