"""DICOM made in code: no patient files are committed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)


def ct_slice(
    number: int = 1,
    *,
    study_uid: str | None = None,
    series_uid: str | None = None,
    patient_id: str = "P-SEEDED-1",
    patient_name: str = "Seeded^Name",
    size: int = 64,
    rng_seed: int = 0,
) -> Dataset:
    """Make one CT slice, valid enough for `dciodvfy`'s eyes and small."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = "20260102"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = "101112"
    ds.AccessionNumber = "A123"
    ds.Modality = "CT"
    ds.Manufacturer = "Brookbox tests"
    ds.ReferringPhysicianName = "Ref^Doctor"
    ds.StudyDescription = "Head"
    ds.SeriesDescription = "Axial"
    ds.PatientName = patient_name
    ds.PatientID = patient_id
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "O"
    ds.SliceThickness = "5"
    ds.KVP = "120"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = study_uid or generate_uid()
    ds.SeriesInstanceUID = series_uid or generate_uid()
    ds.StudyID = "1"
    ds.SeriesNumber = "2"
    ds.AcquisitionNumber = "1"
    ds.InstanceNumber = str(number)
    ds.ImagePositionPatient = [-32.0, -32.0, 5.0 * number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.FrameOfReferenceUID = ds.StudyInstanceUID[:60] + ".9"
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = size
    ds.PixelSpacing = [1.0, 1.0]
    ds.BitsAllocated = 16
    ds.BitsStored = 12
    ds.HighBit = 11
    ds.PixelRepresentation = 0
    ds.WindowCenter = "40"
    ds.WindowWidth = "400"
    ds.RescaleIntercept = "-1024"
    ds.RescaleSlope = "1"
    ds.RescaleType = "HU"
    pixels = np.random.default_rng(rng_seed + number).integers(0, 40, (size, size))
    pixels += 1024 + number * 10
    ds.PixelData = pixels.astype("<u2").tobytes()
    return ds


def ct_study(count: int = 3, **facts: object) -> list[Dataset]:
    """Make a study of one CT series."""
    study_uid = str(facts.pop("study_uid", None) or generate_uid())
    series_uid = str(facts.pop("series_uid", None) or generate_uid())
    return [
        ct_slice(number, study_uid=study_uid, series_uid=series_uid, **facts)  # type: ignore[arg-type]
        for number in range(1, count + 1)
    ]


def write(ds: Dataset, path: Path, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> Path:
    """Write a Part 10 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax_uid
    ds.save_as(path, enforce_file_format=True)
    return path


def write_study(study: list[Dataset], folder: Path) -> list[Path]:
    """Write a study as files, one an instance."""
    return [write(ds, folder / f"{n:04}.dcm") for n, ds in enumerate(study)]


def secondary_capture(of: Dataset) -> Dataset:
    """Make a colour secondary capture in the study of another instance."""
    ds = ct_slice(1, study_uid=of.StudyInstanceUID)
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.Modality = "OT"
    return ds
