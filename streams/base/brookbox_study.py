"""What a result keeps of its sources: whose it is, and which study it belongs to."""

import copy
from collections.abc import Sequence

from brookbox_job import UNREADABLE
from pydicom import DataElement, Dataset, config
from pydicom.valuerep import validate_value

# Type 2 of the patient, study, series and image modules: present even when empty.
REQUIRED = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName",
]  # fmt: skip
# The patient, clinical trial, study and patient study modules (PS3.3 C.7.1, C.7.2).
KEPT = [
    "SpecificCharacterSet", "TimezoneOffsetFromUTC", "StudyInstanceUID", *REQUIRED,
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID",
    "PatientBirthTime", "OtherPatientIDsSequence", "OtherPatientNames",
    "EthnicGroup", "PatientComments", "QualityControlSubject", "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence",
    "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole",
    "ResponsibleOrganization", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription", "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence", "StudyDescription", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "ReferencedStudySequence", "ProcedureCodeSequence",
    "AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight",
    "PatientSexNeutered", "AdmissionID", "ServiceEpisodeID", "PregnancyStatus",
]  # fmt: skip
# What says that it is the same study and space is never bettered: old modalities write UIDs
# with leading zeros, and another UID would be another study.
IDENTIFYING = ["StudyInstanceUID", "FrameOfReferenceUID"]
SAME_IN_ALL_SOURCES = ["BodyPartExamined", "Laterality"]
GEOMETRY = ["FrameOfReferenceUID", "PositionReferenceIndicator"]
# Body parts that have no left and right (PS3.16 Annex L): Laterality stays away there,
# and is there, even empty, for any other (PS3.3 C.7.3.1).
UNPAIRED = """
    ABDOMEN ABDOMENPELVIS AORTA BACK BLADDER BRAIN CEREBELLUM CERVIX CHEST CHESTABDOMEN
    CHESTABDPELVIS CIRCLEOFWILLIS COCCYX COLON CORONARYARTERY CSPINE CTSPINE DUODENUM
    ESOPHAGUS FACE GALLBLADDER HEAD HEADNECK HEART ILEUM ILIUM JAW JEJUNUM LARYNX LIVER
    LSPINE LSSPINE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NOSE PANCREAS PELVIS PENIS
    PHARYNX PROSTATE RECTUM SCALP SKULL SPINE SPLEEN SSPINE STERNUM STOMACH THYMUS
    THYROID TLSPINE TONGUE TRACHEA TSPINE UTERUS VAGINA VULVA WHOLEBODY
"""


def kept(sources: Sequence[Dataset], keeps_geometry: bool) -> Dataset:
    """A new data set with patient and study of the first source, ready for a new series.

    What identifies them is copied as it is; what only describes them is left behind
    where it is empty or not as the standard allows.
    """
    first, ds = sources[0], Dataset()
    same = [k for k in SAME_IN_ALL_SOURCES if len({str(s.get(k)) for s in sources}) == 1]
    for keyword in [*KEPT, *same, *(GEOMETRY if keeps_geometry else ())]:
        if keyword in first and (keyword in REQUIRED or _may_stay(first[keyword])):
            ds[keyword] = copy.deepcopy(first[keyword])
    for keyword in REQUIRED:
        ds.setdefault(keyword, "")
    _complete(ds)
    return ds


def _may_stay(element: DataElement) -> bool:
    """Whether an attribute says something, and identifies or is as PS3.5 6.2 allows."""
    if element.keyword in IDENTIFYING:
        return not element.is_empty
    try:
        for value in element.value if element.VM > 1 else [element.value]:
            validate_value(element.VR, value, config.RAISE)
    except UNREADABLE:
        return False
    return not element.is_empty


def _complete(ds: Dataset) -> None:
    """Add what is required on a condition, as far as it can be told."""
    if ds.get("BodyPartExamined") in UNPAIRED.split():
        ds.pop("Laterality", None)
    else:
        ds.setdefault("Laterality", "")
    said = ds.get("DeidentificationMethod") or ds.get("DeidentificationMethodCodeSequence")
    if ds.get("PatientIdentityRemoved") == "YES" and not said:
        ds.DeidentificationMethod = "Not stated by the source"
