"""The Secondary Capture image that carries a montage to the PACS (PS3.3 A.8.1)."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from brookbox_results import Job, credit, new_result, whole_number
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    SecondaryCaptureImageStorage,
)
from slices import Slice

# JPEG 2000's general syntax is not among them: it may be without loss.
LOSSY_SYNTAXES = [JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless]
# An overview says about its subject what all of its slices say.
PRIVACY = ["BurnedInAnnotation", "RecognizableVisualFeatures"]


def secondary_capture(
    job: Job, name: str, used: Sequence[Slice], series_number: int, modality: str
) -> Dataset:
    """The montage `name` of these slices, without its pixels."""
    sources = list({one.header.SOPInstanceUID: one.header for one in used}.values())
    ds = new_result(
        job,
        name,
        SecondaryCaptureImageStorage,
        sources,
        number=series_number,
        description=str(job.stream.get("name", "Montage")),
        modality=modality,
    )
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.PatientOrientation = ""
    add_losses(ds, sources)
    add_privacy(ds, sources)
    credit(job, ds, sources, f"Montage made by {job.name}.", frames_used(used))
    return ds


def add_pixels(ds: Dataset, picture: NDArray[np.uint8]) -> None:
    """Put in a picture of (rows, columns) or (rows, columns, 3)."""
    colour = picture.ndim == 3
    ds.SamplesPerPixel = 3 if colour else 1
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        ds.PlanarConfiguration = 0
    else:
        # The identity window: without one some viewers stretch the greys again.
        ds.WindowCenter, ds.WindowWidth = 128, 256
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    content = picture.tobytes()
    ds.add_new("PixelData", "OB", content + bytes(len(content) % 2))


def add_losses(ds: Dataset, sources: Sequence[Dataset]) -> None:
    """What was once compressed with loss stays marked so (PS3.3 C.7.6.1.1.5)."""
    for source in sources:
        marked = source.get("LossyImageCompression") == "01"
        if marked or source.file_meta.TransferSyntaxUID in LOSSY_SYNTAXES:
            ds.LossyImageCompression = "01"
            for keyword in ["LossyImageCompressionRatio", "LossyImageCompressionMethod"]:
                if source.get(keyword):
                    ds[keyword] = source[keyword]
            return


def add_privacy(ds: Dataset, sources: Sequence[Dataset]) -> None:
    for keyword in PRIVACY:
        said = {str(source.get(keyword) or "") for source in sources}
        if "YES" in said or said == {"NO"}:
            setattr(ds, keyword, "YES" if "YES" in said else "NO")


def frames_used(used: Sequence[Slice]) -> dict[str, list[int]]:
    """Frames from 1, by SOP Instance UID, of each source that not all frames are used of.

    Without an entry the whole instance was used (PS3.3 table 10-3).
    """
    frames: dict[str, list[int]] = defaultdict(list)
    every = {}
    for one in used:
        frames[one.header.SOPInstanceUID].append(one.frame + 1)
        every[one.header.SOPInstanceUID] = whole_number(one.header, "NumberOfFrames", 1)
    return {uid: sorted(some) for uid, some in frames.items() if len(some) < every[uid]}
