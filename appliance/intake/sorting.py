"""Which instances of a batch may have their rows at once, decided purely.

They may when nothing is kept under their UID, when study and series are free or theirs,
and nothing of them is being erased.  What is not clear is filed alone (`intake.filing`),
which knows every fate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.dicom.header import Header
from appliance.index.batch import Claims
from appliance.intake.arriving import Arriving
from appliance.intake.identity import Patient, is_another_patient


@dataclass(slots=True)
class Sorted:
    """A batch in two parts, each in its order, and the first headers of what is new."""

    clear: list[Arriving] = field(default_factory=list)
    others: list[Arriving] = field(default_factory=list)
    new_studies: list[Arriving] = field(default_factory=list)
    new_series: list[Header] = field(default_factory=list)


def sort_out(batch: Sequence[Arriving], claims: Claims) -> Sorted:
    """Sort a batch: who comes first in it has the study, the series and the UID."""
    found = Sorted()
    patients, studies = dict(claims.patients), dict(claims.studies)
    taken = set(claims.instances)
    for one in batch:
        header = one.header
        of = (header.patient_id, header.patient_name, header.birth_date)
        kept = patients.get(header.study_uid)
        study = studies.get(header.series_uid)
        if (
            one.folder is None
            or header.sop_instance_uid in taken
            or header.study_uid in claims.going
            or (study is not None and study != header.study_uid)
            or (
                kept is not None and kept != of and is_another_patient(Patient(*kept), Patient(*of))
            )
        ):
            found.others.append(one)
            continue
        taken.add(header.sop_instance_uid)
        if kept is None:
            patients[header.study_uid] = of
            found.new_studies.append(one)
        if study is None:
            studies[header.series_uid] = header.study_uid
            found.new_series.append(header)
        found.clear.append(one)
    return found
