"""A phantom CT study made of ellipsoids: a skull, a brain, two ventricles and a bright ball."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

_SIZE = 256
# Semi-axes and centre as shares of the volume (x, y, z), and CT numbers in HU.
_ELLIPSOIDS = (
    ((0.72, 0.90, 0.96), (0.0, 0.0, 0.0), 900),
    ((0.66, 0.84, 0.90), (0.0, 0.0, 0.0), 35),
    ((0.10, 0.30, 0.25), (-0.16, -0.05, 0.0), 5),
    ((0.10, 0.30, 0.25), (0.16, -0.05, 0.0), 5),
    ((0.12, 0.12, 0.18), (0.35, 0.35, 0.2), 75),
)


def write_phantom(folder: Path, slices: int) -> tuple[list[Path], str]:
    """Write a study of so many CT slices; give the files and the Study Instance UID."""
    folder.mkdir(parents=True)
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    files: list[Path] = []
    for number in range(slices):
        ds = _slice(number, slices)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study_uid, series_uid
        ds.FrameOfReferenceUID = frame_uid
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        files.append(folder / f"{number:03}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    return files, str(study_uid)


def pixels(number: int, slices: int) -> npt.NDArray[np.uint16]:
    """Give one slice: (rows, columns), uint16, HU + 1024."""
    axis = np.linspace(-1, 1, _SIZE)
    x, y, z = axis[None, :], axis[:, None], -1 + 2 * (number + 0.5) / slices
    image = np.full((_SIZE, _SIZE), -1000.0)
    for (a, b, c), (x0, y0, z0), hu in _ELLIPSOIDS:
        inside = ((x - x0) / a) ** 2 + ((y - y0) / b) ** 2 + ((z - z0) / c) ** 2 <= 1
        image[inside] = hu
    noise = np.random.default_rng(number).normal(0, 8, image.shape)
    return np.clip(image + noise + 1024, 0, 4095).astype("<u2")


def _slice(number: int, slices: int) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyDate, ds.StudyTime = "20260101", "120000"
    ds.AccessionNumber, ds.Modality, ds.Manufacturer = "DEMO", "CT", "Brookbox demo"
    ds.ReferringPhysicianName, ds.StudyDescription = "", "Phantom head"
    ds.SeriesDescription = "Axial phantom"
    ds.PatientName, ds.PatientID = "Phantom^Head", "DEMO-PHANTOM"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.SliceThickness, ds.KVP, ds.PatientPosition = "6", "120", "HFS"
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", "1", "1"
    ds.InstanceNumber = str(number + 1)
    ds.ImagePositionPatient = [-128.0, -128.0, 6.0 * (number - slices / 2)]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = _SIZE
    ds.PixelSpacing = [1.0, 1.0]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = "40", "160"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.PixelData = pixels(number, slices).tobytes()
    return ds
