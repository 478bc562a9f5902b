"""The UIDs that a data set lacks, made by the node: for `receiver.coerce`.

Some modalities send images without a Study, Series or SOP Instance UID.  They are
made from the association and from what the images say, so that one association's
images of one study and patient find together, and those of two patients never do.
"""

from __future__ import annotations

from appliance.dicom import given_uids, part10
from appliance.dicom.given_uids import SERIES_UID, SOP_INSTANCE_UID, STUDY_UID
from appliance.dicom.header import Header, read_header
from appliance.dicom.names import derived_uid, is_uid
from appliance.errors import InstanceRefused
from appliance.intake.arrived import Sender

_NONE_YET = "0"


def coerced(body: memoryview, meta: part10.FileMeta, sender: Sender) -> bytes | None:
    """Give the data set with the UIDs that it lacks; None when that does not mend it.

    The SOP Instance UID is the request's.
    """
    syntax = meta.transfer_syntax_uid
    said = meta.sop_instance_uid.strip("\0 ")
    try:
        tags = given_uids.lacking(body, syntax)
        if not tags or not is_uid(said):
            return None
        header = read_header(body, syntax, dict.fromkeys(tags, _NONE_YET))
        made = {SOP_INSTANCE_UID: said, **_made_uids(header, sender)}
        return given_uids.filled(body, syntax, {tag: made[tag] for tag in tags})
    except InstanceRefused:
        return None


def _made_uids(header: Header, sender: Sender) -> dict[int, str]:
    study_uid = header.study_uid
    if study_uid == _NONE_YET:
        study_uid = derived_uid(sender.association_id, repr(("study", *_study_of(header))))
    name = repr(("series", header.modality, header.series_number))
    return {STUDY_UID: study_uid, SERIES_UID: derived_uid(study_uid, name)}


def _study_of(header: Header) -> tuple[str, ...]:
    """Give what tells one study of an association from another, the patient first."""
    # Without an ID the patient is whoever has that name, birth date and hour.
    patient = (
        (header.patient_id,)
        if header.patient_id
        else ("", header.patient_name, header.birth_date, header.study_time)
    )
    return (*patient, header.accession_number, header.study_date, header.study_id)
