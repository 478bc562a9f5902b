"""From stored pixels to what a screen shows: decoding, modality LUT, window, colour.

Greyscale stays in the modality's values (HU, for CT) until the tile has its final
size, so that averaging comes before the window cuts off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from brookbox_results import UNREADABLE
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian
from slices import Slice, vector

Grey = NDArray[np.float32]
Colour = NDArray[np.uint8]

LUT_DATA = [f"{name}PaletteColorLookupTableData" for name in ("Red", "Green", "Blue")]


@dataclass(frozen=True, slots=True)
class Window:
    """VOI window in modality values (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] = "LINEAR"

    def __str__(self) -> str:
        return f"{self.center:.6g}/{self.width:.6g}"


def decode(
    header: Dataset, frames: Sequence[int]
) -> Iterator[tuple[int, NDArray[Any] | Exception]]:
    """Each frame's pixels, or the error of decoding them; one bad frame costs only itself.

    Pixels are (rows, columns) or (rows, columns, 3), YCbCr already turned to RGB.
    """
    deflated = header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    rest = list(frames)
    while rest:
        try:
            # Read frame by frame from the file, except where all of it is one deflated stream.
            source = dcmread(header.filename) if deflated else Path(str(header.filename))
            for pixels in iter_pixels(source, indices=tuple(rest)):
                yield rest.pop(0), pixels
            if rest:
                yield rest.pop(0), EOFError("there are fewer frames than the header says")
        except UNREADABLE as error:
            yield rest.pop(0), error


def shown(one: Slice, pixels: NDArray[Any] | Exception) -> Grey | Colour:
    """Stored pixels as modality values (rows, columns) or as RGB (rows, columns, 3), 8 bits.

    Raises what `decode` gave instead of pixels.
    """
    if isinstance(pixels, Exception):
        raise pixels
    header = one.header
    if header.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, header)[..., :3]
        return to_8_bits(colours, palette_bits(header, colours))
    if pixels.ndim == 3:
        return to_8_bits(pixels[..., :3], int(header.get("BitsStored") or header.BitsAllocated))
    values = modality_values(one, pixels).astype(np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return without_padding(header, pixels, values)


def modality_values(one: Slice, pixels: NDArray[Any]) -> NDArray[Any]:
    """Apply the modality LUT, or the slope and intercept of this frame (PS3.3 C.11.1)."""
    if one.header.get("ModalityLUTSequence"):
        return apply_modality_lut(pixels, one.header)
    slope = number(one.value("RescaleSlope", "PixelValueTransformationSequence"))
    intercept = number(one.value("RescaleIntercept", "PixelValueTransformationSequence"))
    return pixels * (slope or 1.0) + (intercept or 0.0)


def without_padding(header: Dataset, pixels: NDArray[Any], values: Grey) -> Grey:
    """Give padding around the image the darkest real value, so that it sets no window."""
    first = header.get("PixelPaddingValue")
    if not isinstance(first, int):
        return values
    last = header.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int) else first))
    padding = (pixels >= low) & (pixels <= high)
    if padding.any() and not padding.all():
        values[padding] = values[~padding].min()
    return values


def to_8_bits(colours: NDArray[Any], bits: int) -> Colour:
    if bits <= 8:
        return colours.astype(np.uint8)
    scaled: NDArray[np.float32] = colours.astype(np.float32) * (255 / (2**bits - 1))
    return scaled.round().astype(np.uint8)


def palette_bits(header: Dataset, colours: NDArray[Any]) -> int:
    """How many bits a palette's colours have: 16-bit tables often hold 8-bit values."""
    if colours.dtype.itemsize == 1:
        return 8
    tables = [header.get(keyword) for keyword in LUT_DATA]
    entries = [np.frombuffer(t, np.uint16) for t in tables if isinstance(t, bytes)]
    return 8 if entries and max(int(e.max()) for e in entries) <= 255 else 16


def window_of(one: Slice) -> Window | None:
    """The first window of this frame's file; None when there is none that can be meant.

    A width of 0 is written by some old exporters for "no window".
    """
    if one.header.BitsAllocated == 1:
        return Window(0.5, 1, "LINEAR_EXACT")
    center, width, function = (
        one.value(keyword, "FrameVOILUTSequence")
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction")
    )
    middle, wide = number(center), number(width)
    if middle is None or wide is None or wide <= 0:
        return None
    match function:
        case "SIGMOID" | "LINEAR_EXACT":
            return Window(middle, wide, function)
        case _:
            # LINEAR is undefined below a width of 1 (PS3.3 C.11.2.1.2.1).
            return Window(middle, wide, "LINEAR" if wide > 1 else "LINEAR_EXACT")


def window_for(tiles: Sequence[Grey]) -> Window:
    """A window that shows the tissue in all these tiles: 1st to 99.8th percentile.

    What lies at the dark end of the range is background and does not count, or the
    air around a head would take half of the greys.
    """
    step = max(1, sum(tile.size for tile in tiles) // 4_000_000)
    values = np.concatenate([tile.ravel()[::step] for tile in tiles])
    darkest, bright = float(values.min()), float(np.percentile(values, 99.5))
    tissue = values[values > darkest + 0.02 * (bright - darkest)]
    if tissue.size < 0.01 * values.size:
        tissue = values
    low, high = (float(p) for p in np.percentile(tissue, (1, 99.8)))
    return Window((low + high) / 2, high - low if high > low else 1.0, "LINEAR_EXACT")


def to_screen(one: Slice, values: Grey, window: Window) -> Colour:
    """Grey values as 8 bits: through the file's VOI LUT, or else through `window`."""
    through = through_lut(one, values) if has_lut(one) else windowed(values, window)
    if one.header.PhotometricInterpretation == "MONOCHROME1":
        through = 1 - through
    return (np.clip(through, 0, 1) * 255).round().astype(np.uint8)


def has_lut(one: Slice) -> bool:
    """Whether the file says by a table how its values are shown; a table goes before a window."""
    tables = one.header.get("VOILUTSequence") or []
    return len(tables) > 0 and all(keyword in tables[0] for keyword in ("LUTDescriptor", "LUTData"))


def through_lut(one: Slice, values: Grey) -> Grey:
    """Values as parts of the full brightness of the file's first VOI LUT."""
    bits = int(one.header.VOILUTSequence[0].LUTDescriptor[2])
    outcome = apply_voi(np.rint(values).astype(np.int32), one.header)
    return np.asarray(outcome / (2**bits - 1), np.float32)


def windowed(values: Grey, window: Window) -> Grey:
    """Values as parts of full brightness, not yet cut to 0 and 1 (PS3.3 C.11.2.1.2 and 3)."""
    match window.function:
        case "SIGMOID":
            power = np.clip(-4 * (values - window.center) / window.width, -80, 80)
            outcome = 1 / (1 + np.exp(power))
        case "LINEAR_EXACT":
            outcome = (values - window.center) / window.width + 0.5
        case "LINEAR":
            outcome = (values - (window.center - 0.5)) / (window.width - 1) + 0.5
    return np.asarray(outcome, np.float32)


def number(value: Any) -> float | None:
    """A number, or the first of several; None when there is none."""
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    found = vector(list(several)[:1], 1)
    return found[0] if found else None
