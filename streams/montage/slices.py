"""Which slices a study has and in what order they are shown; decided from headers alone.

A slice is an image, or one frame of a multi-frame image.  Order is by place in the
body where the slices say where they are, otherwise by number.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brookbox_results import UNREADABLE, whole_number
from pydicom import Dataset

Vector = tuple[float, ...]

MOST_SLICES = 400
# More frames or pixels than this is a damaged or hostile header, not an image.
MOST_FRAMES = 200_000
MOST_PIXELS = 2**27
# Slices are of one stack when their row and normal differ by less than about 10 degrees.
SAME_DIRECTION = 0.985
IMAGE_KEYWORDS = ["Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"]
SPACINGS = ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"]


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One frame, counted from 0, of the instance that `header` describes."""

    header: Dataset
    frame: int

    @property
    def name(self) -> str:
        """The name of the file."""
        return Path(str(self.header.filename)).name

    def value(self, keyword: str, group: str) -> Any:
        """An attribute of this frame.

        It is looked for in the functional group of the frame, in the shared one
        (PS3.3 C.7.6.16), then in the data set itself; None when it is nowhere.
        """
        own = self.header.get("PerFrameFunctionalGroupsSequence") or ()
        shared = self.header.get("SharedFunctionalGroupsSequence") or ()
        for groups in [*own[self.frame : self.frame + 1], *shared[:1]]:
            found = (groups.get(group) or [Dataset()])[0].get(keyword)
            if found not in (None, ""):
                return found
        return self.header.get(keyword)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels of the picture when its pixels are drawn square."""
        width, height = float(self.header.Columns), float(self.header.Rows)
        tall = self._pixel_height_to_width()
        return (width, height * tall) if tall >= 1 else (width / tall, height)

    def _pixel_height_to_width(self) -> float:
        pairs = [self.value(keyword, "PixelMeasuresSequence") for keyword in SPACINGS]
        for pair in [*pairs, self.header.get("PixelAspectRatio")]:
            if (numbers := vector(pair, 2)) and min(numbers) > 0:
                ratio = numbers[0] / numbers[1]
                return ratio if 0.1 <= ratio <= 10 else 1.0
        return 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ImageSeries:
    """The slices of one series, in the order in which they are shown."""

    uid: str
    number: int
    modality: str
    slices: tuple[Slice, ...]

    @property
    def title(self) -> str:
        """What the log calls it: never a description, which may hold a name."""
        return f"series {self.number} ({self.modality})"


def find_series(headers: Sequence[Dataset]) -> tuple[list[ImageSeries], list[str]]:
    """The image series to show, biggest first, and a sentence for each image left out.

    Series of one image (localisers, reports as pictures) are shown only when there
    is nothing else; segmentations come after the images that they segment.
    """
    found: dict[str, list[Slice]] = defaultdict(list)
    left_out = []
    for header in headers:
        if any(not header.get(keyword) for keyword in IMAGE_KEYWORDS):
            continue
        if reason := why_not(header):
            left_out.append(f"{Path(str(header.filename)).name} was left out: {reason}.")
            continue
        frames = max(1, whole_number(header, "NumberOfFrames", 1))
        found[header.SeriesInstanceUID] += [Slice(header, frame) for frame in range(frames)]
    series = [as_series(uid, slices) for uid, slices in found.items()]
    stacks = [one for one in series if len(one.slices) > 1] or series
    stacks.sort(key=lambda s: (s.modality == "SEG", -len(s.slices), s.number, s.uid))
    return stacks, left_out


def why_not(header: Dataset) -> str:
    """Why this image is too large to be true; empty when it is not."""
    rows, columns = whole_number(header, "Rows"), whole_number(header, "Columns")
    frames = whole_number(header, "NumberOfFrames", 1)
    if rows * columns > MOST_PIXELS:
        return f"its header says {columns}x{rows} pixels"
    if frames > MOST_FRAMES:
        return f"its header says {frames} frames"
    return ""


def as_series(uid: str, slices: Sequence[Slice]) -> ImageSeries:
    header = slices[0].header
    return ImageSeries(
        uid=uid,
        number=whole_number(header, "SeriesNumber"),
        modality=str(header.get("Modality") or "OT"),
        slices=tuple(in_order(slices)),
    )


def in_order(slices: Sequence[Slice]) -> list[Slice]:
    """The slices by position along their normal, so axial ones from the feet up.

    Position counts along the normal, not along the table, so a tilted gantry is
    nothing special.  Stacks of different directions follow one another; slices at
    one position (phases, echoes) and slices without a place go by instance number,
    then by frame.
    """
    numbered = sorted(
        slices,
        key=lambda s: (
            whole_number(s.header, "InstanceNumber"),
            str(s.header.SOPInstanceUID),
            s.frame,
        ),
    )
    stacks: list[tuple[Vector, Vector, list[tuple[float, Slice]]]] = []
    unplaced = []
    for one in numbered:
        place = place_of(one)
        if place is None:
            unplaced.append(one)
            continue
        row, normal, position = place
        for stack_row, stack_normal, members in stacks:
            if min(dot(row, stack_row), dot(normal, stack_normal)) > SAME_DIRECTION:
                members.append((round(dot(stack_normal, position), 3), one))
                break
        else:
            stacks.append((row, normal, [(round(dot(normal, position), 3), one)]))
    placed = [s for *_, members in stacks for _, s in sorted(members, key=lambda m: m[0])]
    return placed + unplaced


def place_of(one: Slice) -> tuple[Vector, Vector, Vector] | None:
    """Row direction, normal and position of a slice (PS3.3 C.7.6.2.1.1), mm; None without."""
    directions = vector(one.value("ImageOrientationPatient", "PlaneOrientationSequence"), 6)
    position = vector(one.value("ImagePositionPatient", "PlanePositionSequence"), 3)
    if directions is None or position is None:
        return None
    (a, b, c), (d, e, f) = row, _ = directions[:3], directions[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*normal)
    if not 0.5 < length < 2:
        return None
    return row, tuple(n / length for n in normal), position


def evenly(slices: Sequence[Slice], most: int = MOST_SLICES) -> list[tuple[int, Slice]]:
    """At most `most` slices, evenly spaced, first and last among them, each with its number."""
    count = len(slices)
    if count <= most:
        return list(enumerate(slices, start=1))
    chosen = [round(i * (count - 1) / (most - 1)) for i in range(most)]
    return [(i + 1, slices[i]) for i in chosen]


def vector(value: Any, length: int) -> Vector | None:
    """Numbers of a multi-valued attribute; None when it is not `length` finite numbers."""
    try:
        numbers = tuple(float(v) for v in value or ())
    except UNREADABLE:
        return None
    return numbers if len(numbers) == length and all(map(math.isfinite, numbers)) else None


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
