"""The UIDs that a data set lacks, made by the node: for `receiver.coerce`.

Some modalities send images without a Study, Series or SOP Instance UID.  They are
made from who sends and from what the images say, so that images of one study find
together, those of two patients never do, and what is sent again is what is kept.
Images that do not tell whose they are, or of which study, find together within one
association only; of those a resend takes the UIDs that were made the first time.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.dicom import given_uids, part10
from appliance.dicom.given_uids import SERIES_UID, SOP_INSTANCE_UID, STUDY_UID
from appliance.dicom.header import Header, read_header
from appliance.dicom.names import derived_uid, is_uid
from appliance.errors import InstanceRefused
from appliance.intake.arrived import Sender

_NONE_YET = "0"
Kept = Callable[[str], str]


def coerced(
    body: memoryview, meta: part10.FileMeta, sender: Sender, study_of: Kept = lambda uid: ""
) -> bytes | None:
    """Give the data set with the UIDs that it lacks; None when that does not mend it.

    The SOP Instance UID is the request's.  `study_of` gives the Study UID under which the
    node keeps an instance for which it made UIDs; "" when it keeps none.
    """
    syntax = meta.transfer_syntax_uid
    said = meta.sop_instance_uid.strip("\0 ")
    try:
        tags = given_uids.lacking(body, syntax)
        if not tags or not is_uid(said):
            return None
        header = read_header(body, syntax, dict.fromkeys(tags, _NONE_YET))
        made = {SOP_INSTANCE_UID: said, **_made_uids(header, said, sender, study_of)}
        return given_uids.filled(body, syntax, {tag: made[tag] for tag in tags})
    except InstanceRefused:
        return None


def _made_uids(header: Header, said: str, sender: Sender, study_of: Kept) -> dict[int, str]:
    study_uid = header.study_uid
    if study_uid == _NONE_YET:
        known = "" if _tells_its_study(header) else study_of(said)
        seed = sender.calling_ae_title if _tells_its_study(header) else sender.association_id
        study_uid = known or derived_uid(seed, repr(("study", *_study_of(header))))
    name = repr(("series", header.modality, header.series_number))
    return {STUDY_UID: study_uid, SERIES_UID: derived_uid(study_uid, name)}


def _tells_its_study(header: Header) -> bool:
    """Say whether these facts are those of one study of one patient, whenever it is sent.

    A Study ID alone is not enough: many modalities call each study 1.
    """
    has_moment = bool(header.study_date and header.study_time)
    return bool(header.patient_id or header.patient_name) and bool(
        header.accession_number or has_moment
    )


def _study_of(header: Header) -> tuple[str, ...]:
    """Give what tells one study of a sender from another; all are of the study (PS3.3 C.7.2.1)."""
    return (
        header.patient_id, header.patient_name, header.birth_date, header.accession_number,
        header.study_date, header.study_time, header.study_id,
    )  # fmt: skip
