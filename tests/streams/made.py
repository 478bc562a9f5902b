"""Images made in code for the tests of the streams: every slice has a value of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import DataElement, config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

SIZE = 32
AXIAL = (1, 0, 0, 0, 1, 0)
SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "OT": SecondaryCaptureImageStorage}


def image(value: int = 0, number: int = 1, modality: str = "CT", **attributes: object) -> Dataset:
    """Make one flat grey image of stored value `value`, as a valid instance of its class."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = SOP_CLASSES[modality]
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.1"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.StudyDate, ds.StudyTime = "20260102", "101112"
    ds.AccessionNumber, ds.StudyID = "A123", "S1"
    ds.Modality, ds.Manufacturer = modality, "Tests"
    ds.ReferringPhysicianName, ds.PatientName = "Ref^Doctor", "Müller^Seeded"
    ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "SEEDED-1", "19700101", "O"
    ds.StudyDescription, ds.SeriesDescription, ds.BodyPartExamined = "Head", "Axial", "HEAD"
    ds.SeriesNumber, ds.InstanceNumber = 2, number
    ds.FrameOfReferenceUID = "1.2.3.4.9"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelSpacing = [1, 1]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    set_grey(ds, np.full((SIZE, SIZE), value))
    for keyword, content in attributes.items():
        setattr(ds, keyword, content)
    return ds


def set_grey(ds: Dataset, pixels: np.ndarray) -> None:
    ds.Rows, ds.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    ds.PixelData = pixels.astype("<u2").tobytes()


def volume(
    positions: Sequence[Sequence[float]],
    orientation: Sequence[float] = AXIAL,
    modality: str = "CT",
    **attributes: object,
) -> list[Dataset]:
    """Make a series whose slice `i` lies at `positions[i]` and has the value 100 + 10 i.

    Instance numbers go the other way, so that they cannot be what orders it.
    """
    count = len(positions)
    return [
        image(
            100 + 10 * i, count - i, modality,
            ImagePositionPatient=list(position), ImageOrientationPatient=list(orientation),
            WindowCenter=200, WindowWidth=400, **attributes,
        )
        for i, position in enumerate(positions)
    ]  # fmt: skip


def axial(count: int, **attributes: object) -> list[Dataset]:
    return volume([(-16, -16, 3 * i) for i in range(count)], **attributes)


def multi_frame(values: Sequence[int], heights: Sequence[float] | None = None) -> Dataset:
    """Make an enhanced MR: frame `i` at `heights[i]`, with window and rescale in its groups."""
    ds = image(modality="MR", SOPClassUID=EnhancedMRImageStorage)
    set_grey(ds, np.stack([np.full((SIZE, SIZE), value) for value in values]))
    shared = Dataset()
    shared.PlaneOrientationSequence = [one(ImageOrientationPatient=list(AXIAL))]
    shared.PixelMeasuresSequence = [one(PixelSpacing=[1, 1], SliceThickness=3)]
    shared.FrameVOILUTSequence = [one(WindowCenter=400, WindowWidth=800)]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for height in heights if heights is not None else range(len(values)):
        group = Dataset()
        group.PlanePositionSequence = [one(ImagePositionPatient=[0, 0, height])]
        group.PixelValueTransformationSequence = [one(RescaleSlope=2, RescaleIntercept=0)]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    return ds


def one(**attributes: object) -> Dataset:
    """Make an item of a sequence."""
    ds = Dataset()
    for keyword, content in attributes.items():
        setattr(ds, keyword, content)
    return ds


def coloured(rgb: tuple[int, int, int], frames: int = 1, **attributes: object) -> Dataset:
    """Make a flat RGB image, with several frames an ultrasound cine."""
    ds = image(modality="OT", **attributes)
    del ds.PixelSpacing
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    if frames > 1:
        ds.SOPClassUID, ds.Modality = UltrasoundMultiFrameImageStorage, "US"
        ds.NumberOfFrames = frames
    ds.PixelData = bytes(rgb) * (SIZE * SIZE * frames)
    return ds


def palette(entries: Sequence[tuple[int, int, int]], bits: int, index: int) -> Dataset:
    """Make a flat palette image of the colour `entries[index]`."""
    ds = image(modality="OT", PhotometricInterpretation="PALETTE COLOR")
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes([index]) * (SIZE * SIZE)
    for channel, name in enumerate(("Red", "Green", "Blue")):
        table = np.array([entry[channel] for entry in entries], "<u2")
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [len(entries), 0, bits])
        setattr(ds, f"{name}PaletteColorLookupTableData", table.tobytes())
    return ds


def unchecked(vr: str, keyword: str, value: str) -> DataElement:
    """Make an element with a value that the standard does not allow."""
    return DataElement(keyword, vr, value, validation_mode=config.IGNORE)


def write(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_shuffled(datasets: Sequence[Dataset], folder: Path) -> Path:
    """Write a study under names in an order of their own; give the folder."""
    order = list(range(len(datasets)))
    random.Random(7).shuffle(order)
    for name, ds in zip(order, datasets, strict=True):
        write(ds, folder / f"{name:05}.dcm")
    return folder
