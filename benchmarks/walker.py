"""The walker beside pydicom: what it takes to learn from a CT image what the node must know.

Both read the same bytes in memory, each image once a round, one reader after the other.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from statistics import median

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from appliance.dicom.header import WANTED, read_header
from appliance.dicom.walker import Familiar, header_of_start, read_start
from benchmarks import corpus
from benchmarks.elements import file_meta
from benchmarks.plan import NotMeasured, Plan
from benchmarks.rows import Row

_IMAGES = 320  # 20 in a series
_MOST_ROUNDS = 200
_FIRST = 131_072  # as much as a receiver has of an image when it walks
_SYNTAX = str(ExplicitVRLittleEndian)
_Reader = Callable[["_Image"], object]


@dataclass(frozen=True, slots=True)
class _Image:
    """An image as a file in memory, and the data set in it."""

    file: memoryview
    data_set: memoryview


def run(plan: Plan) -> list[Row]:
    """Compare a whole header with dcmread, and with dcmread and its values as text.

    The first two are of images of an association, the third of one that comes alone.
    """
    if not plan.wants("walker"):
        return []
    images = [_image(one) for one in corpus.ct(_IMAGES).images]
    _check(images)
    familiar = Familiar()  # as a presentation context has it
    return [
        _compare("pydicom", "", plan, images, lambda one: _header(one, familiar), _dcmread),
        _compare("pydicom-values", ", and its values as text", plan, images,
                 lambda one: _header(one, familiar), lambda one: _values(_dcmread(one))),
        _compare("pydicom-alone", "", plan, images, lambda one: _header(one, None), _dcmread),
    ]  # fmt: skip


def _image(one: corpus.Image) -> _Image:
    meta = file_meta(one.sop_class_uid, one.sop_instance_uid)
    file = memoryview(meta + bytes(one.data_set))
    return _Image(file, file[len(meta) :])


def _header(image: _Image, familiar: Familiar | None) -> object:
    start = read_start(image.data_set[:_FIRST], _SYNTAX, False, familiar)
    return start and header_of_start(start, len(image.data_set), _SYNTAX)


def _dcmread(image: _Image) -> Dataset:
    return pydicom.dcmread(BytesIO(image.file[:_FIRST]), stop_before_pixels=True)


def _values(ds: Dataset) -> list[str]:
    return [str(ds[tag].value) for tag in WANTED if tag in ds]


def _check(images: Sequence[_Image]) -> None:
    """Raise NotMeasured unless the walker tells of every image what the reference tells."""
    familiar = Familiar()
    for image in images:
        if _header(image, familiar) != read_header(image.data_set, _SYNTAX):
            raise NotMeasured("the walker does not say of an image what read_header says")


def _compare(
    peer: str, more: str, plan: Plan, images: Sequence[_Image], ours: _Reader, theirs: _Reader
) -> Row:
    rounds: list[tuple[float, float]] = []
    until = time.monotonic() + plan.seconds / 4
    while not rounds or (len(rounds) < _MOST_ROUNDS and time.monotonic() < until):
        rounds.append((_microseconds(ours, images), _microseconds(theirs, images)))
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Row(
        case="walker",
        peer=peer,
        unit="us/image",
        ours=median(mine for mine, _ in rounds),
        theirs=median(other for _, other in rounds),
        ratios=[other / mine for mine, other in rounds],
        cpu_ratio=None,
        rss_mb=rss_mb,
        peer_rss_mb=rss_mb,
        command=f"pydicom {pydicom.__version__}, dcmread(stop_before_pixels=True){more}",
        sender="none: bytes in memory",
        our_command="read_start and header_of_start",
    )


def _microseconds(reader: _Reader, images: Sequence[_Image]) -> float:
    began = time.process_time()
    for image in images:
        reader(image)
    return (time.process_time() - began) / len(images) * 1e6
