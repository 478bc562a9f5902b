"""Whether an instance belongs to the study and the series whose UIDs it has.

Modalities and PACS give a UID twice now and then.  What would put two patients into
one study, or one series into two studies, never joins: a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.dicom.header import Header
from appliance.index import catalog
from appliance.index.database import Connection

ANOTHER_PATIENT = "Its Study Instance UID is that of a study of another patient: it did not join."
ANOTHER_STUDY = "Its Series Instance UID is that of a series of another study: it did not join."


@dataclass(frozen=True, slots=True)
class Patient:
    """Who a data set says that the patient is; "" where it says nothing."""

    id: str
    name: str
    birth_date: str


def is_another_patient(kept: Patient, came: Patient) -> bool:
    """Say whether these are two patients for sure.

    They are when both Patient IDs are filled and differ.  With one and the same ID they
    are when names and birth dates are filled on both sides and both differ: an ID that two
    hospitals gave.  Without an ID on either side, or on both, they are when the names are
    filled and differ.  Otherwise they are one, as far as anybody can tell.

    Names are compared without regard to case, and to spaces and carets at the end of a
    part; of the alphabetic, ideographic and phonetic group those that both have.
    """
    names_differ = _names_differ(kept.name, came.name)
    if not kept.id.strip() or not came.id.strip():
        return names_differ
    if kept.id.strip() != came.id.strip():
        return True
    return names_differ and _both_differ(kept.birth_date.strip(), came.birth_date.strip())


def why_not_joined(connection: Connection, header: Header) -> str:
    """Say why an instance may not join the study and series of its UIDs; "" when it may."""
    claimed = catalog.claimed(connection, header.study_uid, header.series_uid)
    came = Patient(header.patient_id, header.patient_name, header.birth_date)
    if claimed.patient is not None and is_another_patient(Patient(*claimed.patient), came):
        return ANOTHER_PATIENT
    if claimed.study_of_series not in (None, header.study_uid):
        return ANOTHER_STUDY
    return ""


def _both_differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other


def _names_differ(one: str, other: str) -> bool:
    pairs = zip(_groups(one), _groups(other), strict=False)
    return any(_both_differ(mine, other) for mine, other in pairs)


def _groups(name: str) -> list[str]:
    """Give the groups of a person's name, each in one spelling (PS3.5 6.2.1)."""
    return [_plain(group) for group in name.split("=")]


def _plain(group: str) -> str:
    parts = (" ".join(part.split()) for part in group.casefold().split("^"))
    return "^".join(parts).rstrip("^ ")
