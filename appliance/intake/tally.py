"""What came over one association, counted for the event that tells of it at its end.

The receiver counts what it answers; the writer adds what only a row's fate tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.amounts import count
from appliance.dicom import marks, statuses
from appliance.intake.arrived import Kept

_MOST_STUDIES = 100


@dataclass(slots=True)
class Tally:
    """The counters of one association; `returned`, `held` and `conflicts` may follow the answer."""

    instances: int = 0
    failures: int = 0
    returned: int = 0
    held: int = 0
    conflicts: int = 0
    coerced: int = 0
    study_uids: dict[str, None] = field(default_factory=dict)

    def note_answer(self, status: int) -> None:
        """Count an answer to a C-STORE; the receiver calls this, once for each."""
        if statuses.is_success(status):
            self.instances += 1
        else:
            self.failures += 1

    def note_kept(self, kept: Kept) -> None:
        """Count what became of an instance when that is known."""
        self.returned += kept.is_returned
        self.held += kept.is_held
        self.conflicts += kept.is_conflict
        self.coerced += marks.COERCED in kept.marks
        self.note_study(kept.study_uid)

    def note_study(self, study_uid: str) -> None:
        """Remember a study for the event, as far as an event may grow."""
        if study_uid not in self.study_uids and len(self.study_uids) < _MOST_STUDIES:
            self.study_uids[study_uid] = None


def story(
    tally: Tally, *, calling_ae_title: str, called_ae_title: str, address: str, ending: str
) -> str:
    """Tell in a sentence or some what an association brought, and how it ended."""
    told = (
        f"{calling_ae_title} ({address}) sent {count(tally.instances, 'instance')} "
        f"to {called_ae_title}; the association was {ending}."
    )
    if tally.failures:
        told += f" {tally.failures} more {'was' if tally.failures == 1 else 'were'} not kept."
    if tally.held:
        told += f" {_of_them(tally.held)} held in quarantine, for a person to judge."
    if tally.conflicts:
        told += f" {_of_them(tally.conflicts)} in quarantine: other content is kept under that UID."
    if tally.coerced:
        told += f" {tally.coerced} of them lacked a UID, which the node made."
    if tally.returned:
        told += f" {_of_them(tally.returned, 'a result', 'results')} that came back: no new job."
    return told


def _of_them(number: int, one: str = "", several: str = "") -> str:
    """Say that so many of them are something: 1 of them is, 2 of them are."""
    said = f"1 of them is {one}" if number == 1 else f"{number} of them are {several}"
    return said.rstrip()
