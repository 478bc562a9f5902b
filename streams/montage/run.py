"""Montage: one secondary-capture image per image series, with a tile per slice.

A page to look through a study at a glance: in order, windowed, in colour where the
study is.  It reads headers first, then decodes one frame at a time, so memory
follows the picture and not the study.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from brookbox_results import (
    UNREADABLE,
    Job,
    StreamError,
    Success,
    log,
    read_input,
    run,
    save,
    series_number,
)
from capture import add_pixels, secondary_capture
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
        return self.pixels.ndim < len(("rows", "columns", "samples"))


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """The tiles of one series, in order, and the grid that they go into."""

    series: ImageSeries
    layout: Layout
    tiles: tuple[Tile, ...]


def montage(job: Job) -> tuple[Success, str]:
    """Make a montage of each image series; partial when something could not be shown."""
    headers, problems = read_input(job.input, pixels=False)
    study, too_large = find_series(headers)
    problems += too_large
    count = counter(job, sum(min(MOST_SLICES, len(series.slices)) for series in study))
    made, shown_slices = 0, 0
    for series in study:
        sheet, undecoded = make_sheet(series, count)
        problems += undecoded
        if sheet.tiles:
            made += 1
            shown_slices += len(sheet.tiles)
            number, modality = series_number(job, headers), modality_of(study)
            make_image(job, sheet, made, number, modality)
    for sentence in problems:
        log(sentence)
    return ending(made, shown_slices, len(problems))


def ending(made: int, shown_slices: int, problems: int) -> tuple[Success, str]:
    """How the job ended, and in a sentence with what."""
    if not made:
        raise StreamError("The input has no image that can be decoded, so there is no montage.")
    message = f"{plural(made, 'montage')} with {plural(shown_slices, 'slice')}"
    if problems:
        return "partial", f"{message}; {plural(problems, 'problem')}, see the log."
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


def make_sheet(series: ImageSeries, count: Callable[[], None]) -> tuple[Sheet, list[str]]:
    """The slices that can be shown, at their final size, and a sentence for each other one."""
    numbered = evenly(series.slices)
    sizes = [one.size for _, one in numbered]
    layout = lay_out(len(sizes), max(w for w, _ in sizes), max(h for _, h in sizes))
    in_file: dict[str, dict[int, tuple[int, Slice]]] = defaultdict(dict)
    for nth, one in numbered:
        in_file[one.header.SOPInstanceUID][one.frame] = nth, one
    tiles, problems = [], []
    for wanted in in_file.values():
        first = next(one for _, one in wanted.values())
        for frame, pixels in decode(first.header, sorted(wanted)):
            nth, one = wanted[frame]
            try:
                tiles.append(Tile(nth, one, fitted(shown(one, pixels), one.size, layout)))
            except UNREADABLE as error:
                problems.append(f"{first.name}, frame {frame + 1}, cannot be decoded: {error}")
            count()
    tiles.sort(key=lambda tile: tile.number)
    return Sheet(series, layout, tuple(tiles)), problems


def make_image(job: Job, sheet: Sheet, nth: int, series_number: int, modality: str) -> None:
    """Draw the `nth` montage and write it as an instance of the new series."""
    series, layout = sheet.series, sheet.layout
    windows, words = choose_windows(sheet.tiles)
    comment = f"{how_many(sheet)}, {words}."
    if job.caution:
        comment += f" {job.caution.capitalize()}."
    ready = [
        to_screen(tile.slice, tile.pixels, window) if tile.is_grey else tile.pixels
        for tile, window in zip(sheet.tiles, windows, strict=True)
    ]
    labels = [str(tile.number) if len(ready) > 1 else "" for tile in sheet.tiles]
    picture = draw(layout, ready, labels, f"{series.modality} series {series.number}: {comment}")
    used = [tile.slice for tile in sheet.tiles]
    ds = secondary_capture(job, f"montage-{nth}", used, series_number, modality)
    ds.InstanceNumber = nth
    ds.ImageComments = comment
    add_pixels(ds, picture)
    save(job, ds, f"montage-{nth}")
    grid = f"{layout.columns}x{layout.rows} tiles of {layout.tile_width}x{layout.tile_height}"
    log(f"montage-{nth}: {series.title}, {how_many(sheet)}, {words}; {grid}.")


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
    usual = next(iter(dict(counted.most_common(1))), None)
    usual = usual or window_for([tile.pixels for tile in grey])
    if all(has_lut(tile.slice) for tile in grey):
        words = "by the VOI LUT of the file"
    elif not counted:
        words = f"window {usual} from the image values"
    elif len(counted) <= 3:
        words = "window " + " or ".join(str(window) for window in counted) + " of the file"
    else:
        words = "window of each slice's file"
    return [own.get(id(tile)) or usual for tile in tiles], words


def how_many(sheet: Sheet) -> str:
    """`28 slices`, or `400 of 1200 slices, evenly spaced`."""
    every, tiles = len(sheet.series.slices), len(sheet.tiles)
    if every <= MOST_SLICES:
        return plural(tiles, "slice")
    return f"{tiles} of {every} slices, evenly spaced"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


if __name__ == "__main__":
    run(montage)
