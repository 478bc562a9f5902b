"""What is sent: images made in memory, as large and as full of elements as those of scanners.

Their UIDs hold a number that is another one in each run, at places that are known, since an
instance that a receiver has already is another road through it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, MRImageStorage

from benchmarks import elements

# As long as elements.RUN; no component of a UID begins with 0 (PS3.5 9.1).
_runs = itertools.count(100_000_000_000 + int(time.time()) * 10)
_KB = 1000
_STUDIES_OF_CT, _STUDIES_OF_MR = 4, 2
_SERIES_OF_CT, _SERIES_OF_MR = 4, 5
_MR_SIZES = (128, 256)  # 37 and 136 kB
FRAMES = (400, 800)  # of 512 kB: 210 and 420 MB


@dataclass(slots=True)
class Image:
    """A data set in explicit VR little endian, and where in it the number of the run stands."""

    data_set: bytearray
    sop_class_uid: str
    sop_instance_uid: str
    places: tuple[int, ...]

    def renew(self, run: bytes) -> None:
        """Give it the UIDs of a run."""
        first = self.places[0]
        before = self.data_set[first : first + len(run)].decode()
        for place in self.places:
            self.data_set[place : place + len(run)] = run
        self.sop_instance_uid = self.sop_instance_uid.replace(before, run.decode())


@dataclass(frozen=True, slots=True)
class Corpus:
    """Images that are sent together, in order of study and series."""

    title: str
    images: list[Image]

    @property
    def size_bytes(self) -> int:
        """The sum of the data sets."""
        return sum(len(one.data_set) for one in self.images)

    def __str__(self) -> str:
        count = len(self.images)
        return f"{count} {self.title} of {self.size_bytes / count / _KB:.0f} kB"

    def first(self, count: int) -> Corpus:
        """Give the first of them."""
        return Corpus(self.title, self.images[:count])

    def renew(self) -> dict[str, str]:
        """Give all of them new UIDs; the SHA-256 of each data set by SOP Instance UID."""
        run = str(next(_runs)).encode()
        for image in self.images:
            image.renew(run)
        with ThreadPoolExecutor(2) as pool:
            return dict(pool.map(_digest, self.images))

    def parts(self, count: int) -> list[list[Image]]:
        """Share them out among so many associations, a study to as few as possible."""
        cuts = [len(self.images) * number // count for number in range(count + 1)]
        return [self.images[a:b] for a, b in itertools.pairwise(cuts) if a < b]

    def write(self, folder: Path) -> list[Path]:
        """Write them as Part 10 files, for a sender that reads files."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, image in enumerate(self.images):
            path = folder / f"{number:05}.dcm"
            meta = elements.file_meta(image.sop_class_uid, image.sop_instance_uid)
            with path.open("wb") as file:
                file.writelines((meta, image.data_set))
            paths.append(path)
        return paths


def ct(count: int) -> Corpus:
    """Make CT images of 512 × 512: 0.53 MB each, four studies of four series."""
    noise = _noise()
    images = []
    for number in range(count):
        study, series = _seats(number, count, _STUDIES_OF_CT, _SERIES_OF_CT)
        ds = elements.image("CT", CTImageStorage, study, series, number)
        images.append(_image(_with_pixels(ds, noise, 512, 1, number)))
    return Corpus("CT", images)


def mr(count: int) -> Corpus:
    """Make MR images, half of 128 × 128 and half of 256 × 256: 37 and 136 kB."""
    noise = _noise()
    images = []
    for number in range(count):
        study, series = _seats(number, count, _STUDIES_OF_MR, _SERIES_OF_MR)
        ds = elements.image("MR", MRImageStorage, study, series + 10, number)
        size = _MR_SIZES[number % 2]
        images.append(_image(_with_pixels(ds, noise, size, 1, number)))
    return Corpus("MR", images)


def multi_frame(frames: Sequence[int] = FRAMES) -> Corpus:
    """Make multi-frame MR images of 210 and 420 MB in one series."""
    noise = _noise()
    images = []
    for number, count in enumerate(frames):
        ds = elements.image("MR", EnhancedMRImageStorage, 30, 30, number)
        ds.NumberOfFrames = count
        images.append(_image(_with_pixels(ds, noise, 512, count, number)))
    return Corpus("multi-frame MR", images)


def _noise() -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    """Make 8 MB of noise as a scanner's: signed, 16 bits."""
    return np.random.default_rng(7).normal(0, 30, 4 * 1024 * 1024).astype("<i2")


def _seats(number: int, count: int, studies: int, series: int) -> tuple[int, int]:
    """Say which study and series an image is in: one after the other, each as large."""
    seat = number * studies * series // count
    return seat // series + 1, seat % series + 1


def _with_pixels(
    ds: Dataset, noise: np.ndarray[tuple[int, ...], np.dtype[np.int16]], size: int,
    frames: int, number: int,
) -> Dataset:  # fmt: skip
    wanted = size * size * frames
    start = number * 7919 % (len(noise) // 2)
    pixels = np.resize(noise[start:], wanted)
    ds.Rows = ds.Columns = size
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def _image(ds: Dataset) -> Image:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, ds)
    content = bytearray(out.getvalue())
    pixels = content.rfind(b"\xe0\x7f\x10\x00OW", 0, 16_384)  # no UID is looked for in them
    places = tuple(one.start() for one in re.finditer(elements.RUN.encode(), content[:pixels]))
    return Image(content, str(ds.SOPClassUID), str(ds.SOPInstanceUID), places)


def _digest(image: Image) -> tuple[str, str]:
    return image.sop_instance_uid, hashlib.sha256(image.data_set).hexdigest()
