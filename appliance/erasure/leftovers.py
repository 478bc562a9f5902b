"""What stands of a patient or a study in `quarantine/` and in `incoming/`: no row tells of it.

Each file is read, and goes with the patient and the study that it names itself: what carries
UIDs of what goes and names another patient, or a study of its own, stays.  A file that cannot
be read is searched for the elements that would name the patient or the study, since damaged
files are what quarantine is for.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from appliance.dicom import part10
from appliance.dicom.header import Header, opened
from appliance.dicom.names import uids_in
from appliance.disk import incoming
from appliance.disk.layout import Layout, instance_path
from appliance.disk.studies import Studies
from appliance.errors import InstanceRefused
from appliance.index.extent import Subject

# (0010,0020) Patient ID and (0020,000D) Study Instance UID, little and big endian.
_TAGS = re.compile(rb"\x10\x00\x20\x00|\x00\x10\x00\x20|\x20\x00\x0d\x00|\x00\x20\x00\x0d")
_PATIENT_ID = (b"\x10\x00\x20\x00", b"\x00\x10\x00\x20")
_BIG_ENDIAN = b"\x00"  # of a group below 0x0100, the first byte
_LONGEST = 1024


class Verdict(Enum):
    """What an erasure does with a file."""

    GOES = auto()
    STAYS = auto()  # it carries a UID of what goes, and is another patient's or study's
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Found:
    """Entries of quarantine, by id: those that go, and those that only carry UIDs of it."""

    goes: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()


class Matcher:
    """Says whether a file is of what goes.

    `patients` names the Patient ID of each study that goes, None where nobody knows it any
    more; `uids` are those of its studies, series and instances.
    """

    def __init__(
        self, subject: Subject, patients: Mapping[str, str | None], uids: Collection[str]
    ) -> None:
        self._patient = subject.value.strip() if subject.kind == "patient" else None
        self._patients = dict(patients)
        self._uids = frozenset(uids).union(patients)

    def judge(self, path: Path, words: str = "") -> Verdict:
        """Judge a DICOM file, whole or damaged, and the words that stand beside it.

        The words name UIDs only, and only of a file that cannot be read they decide.
        """
        is_told = not self._uids.isdisjoint(uids_in(words))
        try:
            header = part10.read_file(path)[1]
        except InstanceRefused:
            return Verdict.GOES if is_told or self._is_named_in(path) else Verdict.OTHER
        except FileNotFoundError:
            return Verdict.GOES if is_told else Verdict.OTHER
        if self._is_its_own(header):
            return Verdict.GOES
        named = (header.study_uid, header.series_uid, header.sop_instance_uid)
        is_named = is_told or not self._uids.isdisjoint(named)
        return Verdict.STAYS if is_named else Verdict.OTHER

    def _is_its_own(self, header: Header) -> bool:
        """Say whether a file names as its own what goes; without a Patient ID, the study."""
        patient = header.patient_id.strip()
        if patient and patient == self._patient:
            return True
        if header.study_uid not in self._patients:
            return False
        known = self._patients[header.study_uid]
        return not patient or known is None or patient == known.strip()

    def _is_named_in(self, path: Path) -> bool:
        with opened(path) as view:
            return any(
                value == self._patient if tag in _PATIENT_ID else value in self._patients
                for tag, value in _named_in(view)
            )


def in_quarantine(layout: Layout, matcher: Matcher) -> Found:
    """Find what is in quarantine of it, and what is not but carries UIDs of it."""
    entries: dict[str, list[Path]] = {}
    for path in sorted(layout.quarantine.iterdir()):
        if path.is_file():
            entries.setdefault(path.name.partition(".")[0], []).append(path)
    judged = {id: _judge(matcher, paths) for id, paths in entries.items()}
    return Found(
        goes=tuple(id for id, verdict in judged.items() if verdict is Verdict.GOES),
        stays=tuple(id for id, verdict in judged.items() if verdict is Verdict.STAYS),
    )


def remove_from_quarantine(layout: Layout, matcher: Matcher, before: str) -> Found:
    """Remove all of it that came before an erasure, given its id; say what went and what stays.

    What came after is of a study that was sent anew.
    """
    found = in_quarantine(layout, matcher)
    goes = tuple(id for id in found.goes if not _is_younger(id, before))
    for id in goes:
        # The file first: words without a file are no entry.
        for path in sorted(layout.quarantine.glob(f"{id}.*")):
            path.unlink(missing_ok=True)
    return Found(goes, tuple(id for id in found.stays if not _is_younger(id, before)))


def in_incoming(layout: Layout, matcher: Matcher) -> Iterator[Path]:
    """Give what dead processes left of it; what living ones are at is not looked at."""
    for folder in incoming.abandoned(layout.incoming):
        for path in incoming.files_in(folder):
            if matcher.judge(path) is Verdict.GOES:
                yield path


def remove_from_incoming(layout: Layout, matcher: Matcher) -> int:
    """Remove all of it; how many files there were."""
    removed, studies = 0, Studies(layout)
    for path in in_incoming(layout, matcher):
        # Linked before its row was made: nobody else would find its other name.
        with suppress(InstanceRefused):
            header = part10.read_file(path)[1]
            uids = header.study_uid, header.series_uid, header.sop_instance_uid
            studies.unlink_if_same(instance_path(*uids), path)
        path.unlink(missing_ok=True)
        removed += 1
    return removed


def _judge(matcher: Matcher, paths: Sequence[Path]) -> Verdict:
    """Judge an entry by its files, of which the words tell more, or by the words alone."""
    words = ""
    for path in paths:
        if ".json" in path.suffixes:
            with suppress(FileNotFoundError):
                words += path.read_text("utf-8", "replace")
    files = [path for path in paths if ".json" not in path.suffixes]
    judged = {matcher.judge(path, words) for path in files or [paths[0].with_suffix(".dcm")]}
    return min(judged, key=lambda one: one.value)


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
