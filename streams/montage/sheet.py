"""The picture: how many columns, how big a tile, and the drawing of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LARGEST = 4096
SMALLEST_TILE = 256
SMALLEST_LABELLED = 64
SMALLEST_LETTERS = 8
TALLEST_CAPTION = 48
PREFERRED_SHAPE = 4 / 3
WHITE, GREY, BLACK = 255, 170, 0


@dataclass(frozen=True, slots=True)
class Layout:
    """A grid of equal tiles; sizes in pixels."""

    columns: int
    rows: int
    tile_width: int
    tile_height: int

    @property
    def width(self) -> int:
        return self.columns * self.tile_width

    @property
    def height(self) -> int:
        return self.rows * self.tile_height + self.caption_height

    @property
    def caption_height(self) -> int:
        return min(TALLEST_CAPTION, max(24, self.width // 80))

    def corner(self, i: int) -> tuple[int, int]:
        """Left and top of tile `i`, row by row."""
        return i % self.columns * self.tile_width, i // self.columns * self.tile_height


def lay_out(count: int, width: float, height: float) -> Layout:
    """The grid that shows `count` slices of this size largest, then nearest to 4:3.

    Slices are never enlarged, except small ones to a tile in which detail can be seen.
    """
    enlarge = max(1.0, SMALLEST_TILE / max(width, height))
    width, height = width * enlarge, height * enlarge

    def scale(columns: int) -> float:
        tallest = (LARGEST - TALLEST_CAPTION) / math.ceil(count / columns)
        return min(1.0, LARGEST / columns / width, tallest / height)

    def badness(columns: int) -> float:
        rows = math.ceil(count / columns)
        shape = (columns * width) / (rows * height)
        return abs(math.log(shape / PREFERRED_SHAPE)) + (columns * rows - count) / count

    columns = min(range(1, count + 1), key=lambda c: (-round(scale(c), 2), badness(c)))
    size = scale(columns)
    return Layout(
        columns,
        math.ceil(count / columns),
        max(1, int(width * size + 0.001)),
        max(1, int(height * size + 0.001)),
    )


def fitted(pixels: NDArray[Any], size: tuple[float, float], layout: Layout) -> NDArray[Any]:
    """One slice, grey (float32) or RGB (uint8), at the size that it has in its tile.

    `size` is its width and height with square pixels.  Shrinking averages areas.
    """
    scale = min(layout.tile_width / size[0], layout.tile_height / size[1])
    width, height = (max(1, round(side * scale)) for side in size)
    width, height = min(width, layout.tile_width), min(height, layout.tile_height)
    rows, columns = pixels.shape[:2]
    if (width, height) == (columns, rows):
        return pixels
    # Both weigh the whole area of a shrunken pixel.  BOX does not, unless the factor
    # is whole: it takes two rows here and three there, and thin lines come and go.
    shrinks = width <= columns and height <= rows
    method = Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC
    fitting = np.asarray(Image.fromarray(pixels).resize((width, height), method))
    # Enlarging swings over at edges, to values that the slice does not have.
    within: NDArray[Any] = np.clip(fitting, pixels.min(), pixels.max())
    return within


def draw(
    layout: Layout, tiles: Sequence[NDArray[np.uint8]], labels: Sequence[str], caption: str
) -> NDArray[np.uint8]:
    """The picture: (height, width), or (height, width, 3) when a tile is RGB."""
    colour = any(tile.ndim == 3 for tile in tiles)
    sheet = Image.new("RGB" if colour else "L", (layout.width, layout.height))
    pen = ImageDraw.Draw(sheet)
    for i, (label, tile) in enumerate(zip(labels, tiles, strict=True)):
        left, top = layout.corner(i)
        height, width = tile.shape[:2]
        middle = left + (layout.tile_width - width) // 2, top + (layout.tile_height - height) // 2
        sheet.paste(Image.fromarray(tile), middle)
        write_label(pen, layout, (left, top), label)
    write_caption(pen, layout, caption)
    return np.asarray(sheet)


def write_label(
    pen: ImageDraw.ImageDraw, layout: Layout, corner: tuple[int, int], label: str
) -> None:
    if not label or layout.tile_height < SMALLEST_LABELLED:
        return
    font = ImageFont.load_default(min(28, max(12, layout.tile_height // 18)))
    at = corner[0] + 6, corner[1] + 4
    left, top, right, bottom = pen.textbbox(at, label, font)
    # On a ground of its own: a slice may be white where its number stands.
    pen.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill=tone(pen, BLACK))
    pen.text(at, label, tone(pen, WHITE), font)


def write_caption(pen: ImageDraw.ImageDraw, layout: Layout, caption: str) -> None:
    """The line below the tiles, as large as its strip and the width allow."""
    size = layout.caption_height * 2 // 3
    while size > SMALLEST_LETTERS and length(pen, caption, size) > layout.width - 12:
        size -= 1
    top = layout.height - layout.caption_height + (layout.caption_height - size) // 2 - 2
    pen.text((6, top), caption, tone(pen, GREY), ImageFont.load_default(size))


def length(pen: ImageDraw.ImageDraw, text: str, size: int) -> float:
    return pen.textlength(text, ImageFont.load_default(size))


def tone(pen: ImageDraw.ImageDraw, grey: int) -> int | tuple[int, int, int]:
    return grey if pen.mode == "L" else (grey, grey, grey)
