"""Whose study a job works on: the Patient IDs and names that its results may bear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.dicom import part10
from appliance.errors import InstanceRefused
from appliance.index.catalog import Instance, Study


class Patients:
    """The patient of a study as the catalog knows it, and as each input writes it.

    Senders write one patient in more than one way, so a result may have the words
    of any input; the files are read only when the catalog's do not match.
    """

    def __init__(self, root: Path, inputs: Sequence[Instance], study: Study | None) -> None:
        self._root = root
        self._unread = list(inputs)
        self._known = {_plain(study.patient_id, study.patient_name)} if study else set()

    def has(self, patient_id: str, patient_name: str) -> bool:
        """Say whether an input bears this Patient ID and name."""
        wanted = _plain(patient_id, patient_name)
        while wanted not in self._known and self._unread:
            self._read(self._unread.pop())
        return wanted in self._known

    def _read(self, instance: Instance) -> None:
        try:
            _, header, _ = part10.read_file(self._root / instance.path)
        except (InstanceRefused, OSError):
            return
        self._known.add(_plain(header.patient_id, header.patient_name))


def _plain(patient_id: str, patient_name: str) -> tuple[str, str]:
    """Drop what does not tell patients apart: outer spaces, empty parts at a name's end."""
    groups = (group.rstrip("^ ") for group in patient_name.split("="))
    return patient_id.strip(), "=".join(groups).rstrip("= ").strip()
