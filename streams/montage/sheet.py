"""The picture: how many columns, how big a tile, and the drawing of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LARGEST = 4096
SMALLEST_TILE = 256
SMALLEST_LABELLED = 64
CAPTION_HEIGHT = 24
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
        return self.rows * self.tile_height + CAPTION_HEIGHT

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
        rows = math.ceil(count / columns)
        return min(1.0, LARGEST / (columns * width), (LARGEST - CAPTION_HEIGHT) / (rows * height))

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


def fitted(
    pixels: NDArray[np.generic], size: tuple[float, float], layout: Layout
) -> NDArray[np.generic]:
    """One slice, grey (float32) or RGB (uint8), at the size that it has in its tile.

    `size` is its width and height with square pixels.  Shrinking averages areas.
    """
    scale = min(layout.tile_width / size[0], layout.tile_height / size[1])
    width, height = (max(1, round(side * scale)) for side in size)
    width, height = min(width, layout.tile_width), min(height, layout.tile_height)
    rows, columns = pixels.shape[:2]
    if (width, height) == (columns, rows):
        return pixels
    shrinks = width <= columns and height <= rows
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


def draw(
    layout: Layout, tiles: Sequence[tuple[str, NDArray[np.uint8]]], caption: str
) -> NDArray[np.uint8]:
    """The picture of labelled tiles: (height, width), or (height, width, 3) when one is RGB."""
    colour = any(tile.ndim == 3 for _, tile in tiles)
    sheet = Image.new("RGB" if colour else "L", (layout.width, layout.height))
    pen = ImageDraw.Draw(sheet)
    for i, (label, tile) in enumerate(tiles):
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
    if layout.tile_height < SMALLEST_LABELLED:
        return
    font = ImageFont.load_default(min(28, max(12, layout.tile_height // 18)))
    left, top = corner[0] + 5, corner[1] + 3
    pen.text((left, top), label, tone(pen, WHITE), font, stroke_width=1, stroke_fill=BLACK)


def write_caption(pen: ImageDraw.ImageDraw, layout: Layout, caption: str) -> None:
    """The line below the tiles, as large as the width allows."""
    for size in (16, 14, 12, 10, 9, 8):
        font = ImageFont.load_default(size)
        if pen.textlength(caption, font) <= layout.width - 10:
            break
    top = layout.height - CAPTION_HEIGHT + (CAPTION_HEIGHT - size) // 2 - 2
    pen.text((5, top), caption, tone(pen, GREY), font)


def tone(pen: ImageDraw.ImageDraw, grey: int) -> int | tuple[int, int, int]:
    return grey if pen.mode == "L" else (grey, grey, grey)
