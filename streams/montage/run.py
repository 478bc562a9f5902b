"""Montage: one secondary-capture image per image series, with a tile per slice.

A page to look through a study at a glance: in order, windowed, in colour where the
study is.  It reads headers first, then decodes one frame at a time, so memory
follows the picture and not the study.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from brookbox_results import (
    UNREADABLE,
    Failed,
    Job,
    Success,
    log,
    read_input,
    run,
    save,
    series_number,
)
from capture import secondary_capture
from numpy.typing import NDArray
from pixels import Window, decode, has_lut, shown, to_screen, window_for, window_of
from sheet import Layout, draw, fitted, lay_out
from slices import MOST_SLICES, ImageSeries, Slice, evenly, find_series


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A slice at its final size: grey in modality values (float32), or RGB (uint8)."""

    number: int
    slice: Slice
    pixels: NDArray[Any]

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2


def montage(job: Job) -> tuple[Success, str]:
    """Make a montage of each image series; partial when something could not be shown."""
    headers, problems = read_input(job.input, pixels=False)
    study, too_large = find_series(headers)
    problems += too_large
    number, modality = series_number(headers), modality_of(study)
    count = counter(job, sum(min(MOST_SLICES, len(series.slices)) for series in study))
    made = tiles_shown = 0
    for series in study:
        layout, tiles, undecoded = decode_tiles(series, count)
        problems += undecoded
        if tiles:
            made += 1
            tiles_shown += len(tiles)
            make_image(job, series, layout, tiles, made, number, modality)
    for sentence in problems:
        log(sentence)
    if not made:
        raise Failed("The input has no image that can be decoded, so there is no montage.")
    message = f"{plural(made, 'montage')} with {plural(tiles_shown, 'slice')}"
    if problems:
        return "partial", f"{message}; {plural(len(problems), 'problem')}, see the log."
    return "success", f"{message}."


def modality_of(study: Sequence[ImageSeries]) -> str:
    """What acquired the slices (PS3.3 C.7.3.1.1.1); OT when a study has several."""
    modalities = {series.modality for series in study}
    return modalities.pop() if len(modalities) == 1 else "OT"


def counter(job: Job, of: int) -> Callable[[], None]:
    """A function to call once for each slice done."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        job.progress(done, of, "reading slices")

    return count


def decode_tiles(
    series: ImageSeries, count: Callable[[], None]
) -> tuple[Layout, list[Tile], list[str]]:
    """The slices at their size in the picture, in order, and a sentence for each that is not."""
    numbered = evenly(series.slices)
    sizes = [one.size for _, one in numbered]
    layout = lay_out(len(sizes), max(w for w, _ in sizes), max(h for _, h in sizes))
    in_file: dict[Any, dict[int, tuple[int, Slice]]] = defaultdict(dict)
    for nth, one in numbered:
        in_file[one.path][one.frame] = nth, one
    tiles, problems = [], []
    for path, wanted in in_file.items():
        for frame, pixels in decode(path, sorted(wanted)):
            count()
            nth, one = wanted[frame]
            try:
                if isinstance(pixels, str):
                    raise ValueError(pixels)
                tiles.append(Tile(nth, one, fitted(shown(one, pixels), one.size, layout)))
            except UNREADABLE as error:
                problems.append(f"{path.name}, frame {frame + 1}, cannot be decoded: {error}")
    return layout, sorted(tiles, key=lambda tile: tile.number), problems


def make_image(
    job: Job,
    series: ImageSeries,
    layout: Layout,
    tiles: Sequence[Tile],
    nth: int,
    number: int,
    modality: str,
) -> None:
    """Draw the `nth` montage and write it as an instance of the new series `number`."""
    windows, words = choose_windows(tiles)
    labelled = [
        (str(t.number), to_screen(t.slice, t.pixels, w) if t.is_grey else t.pixels)
        for t, w in zip(tiles, windows, strict=True)
    ]
    comment = f"{how_many(series, tiles)}, {words}."
    caption = f"{series.modality} series {series.number}: {comment} {job.caution.capitalize()}"
    picture = draw(layout, labelled, caption)
    ds = secondary_capture(
        job,
        picture,
        series,
        [tile.slice for tile in tiles],
        nth=nth,
        series_number=number,
        modality=modality,
        comment=comment,
    )
    save(job, ds, f"montage-{nth}")
    grid = f"{layout.columns}x{layout.rows} tiles of {layout.tile_width}x{layout.tile_height}"
    log(f"montage-{nth}: {series.title}, {comment} {grid}.")


def choose_windows(tiles: Sequence[Tile]) -> tuple[list[Window], str]:
    """A window for each tile, and in words where they come from.

    Each file's own; a tile without one gets the one that most others have, and when
    none has one, one window for all is taken from the values.
    """
    grey = [tile for tile in tiles if tile.is_grey]
    if not grey:
        return [Window(128, 256)] * len(tiles), "in colour"
    own = {id(tile): window_of(tile.slice) for tile in grey}
    counted = Counter(window for window in own.values() if window)
    if counted:
        usual = counted.most_common(1)[0][0]
    else:
        usual = window_for([tile.pixels for tile in grey])
    if all(has_lut(tile.slice) for tile in grey):
        words = "by the VOI LUT of the file"
    elif not counted:
        words = f"window {usual} from the image values"
    elif len(counted) <= 3:
        words = "window " + " or ".join(str(window) for window in counted) + " of the file"
    else:
        words = "window of each slice's file"
    return [own.get(id(tile)) or usual for tile in tiles], words


def how_many(series: ImageSeries, tiles: Sequence[Tile]) -> str:
    """`28 slices`, or `400 of 1200 slices, evenly spaced`."""
    every = len(series.slices)
    if every <= MOST_SLICES:
        return plural(len(tiles), "slice")
    return f"{len(tiles)} of {every} slices, evenly spaced"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


if __name__ == "__main__":
    run(montage)
