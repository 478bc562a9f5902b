"""The elements of an image as a scanner writes them: some sequences, private blocks, 100 in all."""

from __future__ import annotations

import struct

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

RUN = "100000000000"  # stands for the number of the run
_ROOT = f"1.2.826.0.1.3680043.10.{RUN}"
_DAY, _TIME = "20260102", "101112"


def image(modality: str, sop_class_uid: str, study: int, series: int, number: int) -> Dataset:
    """Make the header of one image; `study` and `series` are in its UIDs, pixels come later."""
    study_uid = f"{_ROOT}.{study}"
    series_uid = f"{study_uid}.{series}"
    ds = Dataset()
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = f"{series_uid}.{number + 1}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
    ds.Modality = modality
    _say_whose(ds, study)
    _say_how(ds, series)
    _say_where(ds, study_uid, number)
    _refer(ds, study_uid, series_uid, sop_class_uid)
    _add_private(ds)
    return ds


def file_meta(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Write preamble, prefix and File Meta (PS3.10 7.1) of a file in explicit VR little endian."""
    uids = ((2, sop_class_uid), (3, sop_instance_uid), (16, ExplicitVRLittleEndian))
    body = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\0\1"
    for element, uid in (*uids, (18, "1.2.826.0.1.3680043.10.1")):
        value = uid.encode() + b"\0" * (len(uid) % 2)
        body += struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def _say_whose(ds: Dataset, study: int) -> None:
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID = f"Doe{study}^John", f"PID{study:07}"
    ds.PatientBirthDate, ds.PatientSex = "19500101", "M"
    ds.PatientAge, ds.PatientWeight = "076Y", "81.5"
    ds.StudyID, ds.AccessionNumber = str(study), f"ACC{study:06}"
    ds.StudyDescription = "THORAX ABDOMEN W CONTRAST"
    ds.ReferringPhysicianName, ds.OperatorsName = "REF^DOC", "OP^ONE"
    ds.InstitutionName, ds.InstitutionAddress = "General Hospital", "1 Main Street\r\nTown"


def _say_how(ds: Dataset, series: int) -> None:
    for event in ("Study", "Series", "Acquisition", "Content", "InstanceCreation"):
        setattr(ds, f"{event}Date", _DAY)
        setattr(ds, f"{event}Time", f"{_TIME}.123000")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer, ds.ManufacturerModelName, ds.StationName = "SYNTHMED", "Synth 64", "SM01"
    ds.SeriesNumber, ds.SeriesDescription = series, f"Series {series} 1.0 B30f"
    ds.ProtocolName, ds.BodyPartExamined = "6.1 Thorax", "CHEST"
    ds.ScanOptions, ds.SoftwareVersions = "HELICAL MODE", "v7.1"
    ds.KVP, ds.ExposureTime, ds.XRayTubeCurrent, ds.Exposure = "120", "800", "320", "256"
    ds.DataCollectionDiameter, ds.ReconstructionDiameter = "500", "360"
    ds.DistanceSourceToDetector, ds.DistanceSourceToPatient = "949.075", "541"
    ds.GantryDetectorTilt, ds.TableHeight, ds.RotationDirection = "0", "150", "CW"
    ds.FilterType, ds.ConvolutionKernel, ds.PatientPosition = "BODY FILTER", "STANDARD", "FFS"
    ds.PerformedProcedureStepStartDate, ds.PerformedProcedureStepStartTime = _DAY, _TIME


def _say_where(ds: Dataset, study_uid: str, number: int) -> None:
    ds.AcquisitionNumber, ds.InstanceNumber = 1, number + 1
    place = round(-300 + 1.25 * number, 3)
    ds.ImagePositionPatient = [-180, -180, place]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceLocation, ds.SliceThickness = place, "1.25"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = f"{study_uid}.7", ""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelSpacing = [0.703125, 0.703125]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"


def _refer(ds: Dataset, study_uid: str, series_uid: str, sop_class_uid: str) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "24627-2", "LN", "Chest CT"
    ds.ProcedureCodeSequence = Sequence([code])
    step = _reference("1.2.840.10008.3.1.2.3.3", f"{study_uid}.99")
    ds.ReferencedPerformedProcedureStepSequence = Sequence([step])
    others = [_reference(sop_class_uid, f"{series_uid}.9{number}") for number in range(3)]
    ds.ReferencedImageSequence = Sequence(others)
    asked = Dataset()
    asked.RequestedProcedureDescription, asked.RequestedProcedureID = "CT THORAX", "RP1"
    asked.ScheduledProcedureStepID = "SP1"
    ds.RequestAttributesSequence = Sequence([asked])


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    one = Dataset()
    one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return one


def _add_private(ds: Dataset) -> None:
    block = ds.private_block(0x0009, "SYNTHMED_IDEN_01", create=True)
    block.add_new(1, "LO", "SM_ISIS_FF")
    block.add_new(2, "SH", "SM01")
    block = ds.private_block(0x0019, "SYNTHMED_ACQU_01", create=True)
    for number in range(2, 40):
        block.add_new(number, "DS", str(number * 1.5))
    block = ds.private_block(0x0043, "SYNTHMED_PARM_01", create=True)
    block.add_new(0x10, "OB", bytes(range(256)) * 8)
