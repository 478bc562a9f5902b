"""Which slices a montage shows, and in what order."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from tests.streams import made
from tests.streams.conftest import RunStream

SAGITTAL = (0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, -1)
TILT = math.radians(18.5)
TILTED = (1, 0, 0, 0, math.cos(TILT), -math.sin(TILT))


def rising(count: int) -> list[int]:
    """What the middles of the tiles of `made.volume` are through its window 200/400."""
    values = [100 + 10 * i for i in range(count)]
    return [round(255 * ((value - 199.5) / 399 + 0.5)) for value in values]


@pytest.mark.parametrize(
    ("orientation", "positions"),
    [
        (made.AXIAL, [(-16, -16, -30 + 3 * i) for i in range(7)]),
        (TILTED, [(-16, -16, 4.5 * i) for i in range(7)]),
        (SAGITTAL, [(60 - 8 * i, 0, 0) for i in range(7)]),
        (CORONAL, [(0, -40 + 8 * i, 0) for i in range(7)]),
    ],
    ids=["axial", "tilted gantry", "sagittal", "coronal"],
)
def test_slices_stand_by_position_whatever_files_and_numbers_say(
    tmp_path: Path,
    run_stream: RunStream,
    orientation: tuple[float, ...],
    positions: list[tuple[float, ...]],
) -> None:
    study = made.volume(positions, orientation)
    ended = run_stream("montage", made.write_shuffled(study, tmp_path / "in"))
    assert ended.exit_code == 0, ended.log
    assert ended.middles()[:7] == rising(7)


def test_slices_without_a_place_stand_by_instance_number(
    tmp_path: Path, run_stream: RunStream
) -> None:
    window = {"WindowCenter": 200, "WindowWidth": 400}
    study = [made.image(100 + 10 * i, number=i + 8, **window) for i in range(5)]
    ended = run_stream("montage", made.write_shuffled(study, tmp_path / "in"))
    assert ended.middles()[:5] == rising(5)


def test_stacks_of_two_directions_follow_one_another(tmp_path: Path, run_stream: RunStream) -> None:
    across = made.axial(3)
    upright = made.volume([(0, 8 * i, 0) for i in range(3)], CORONAL)
    for i, ds in enumerate(upright):
        ds.InstanceNumber = 10 + i
    ended = run_stream("montage", made.write_shuffled([*upright, *across], tmp_path / "in"))
    assert ended.middles()[:6] == rising(3) + rising(3)


def test_frames_stand_by_the_position_in_their_functional_group(
    tmp_path: Path, run_stream: RunStream
) -> None:
    ds = made.multi_frame(values=[300, 100, 400, 200], heights=[6, 0, 9, 3])
    made.write(ds, tmp_path / "in" / "a.dcm")
    ended = run_stream("montage", tmp_path / "in")
    # Slope 2 and window 400/800 come from the groups too.
    expected = [round(255 * ((2 * v - 399.5) / 799 + 0.5)) for v in (100, 200, 300, 400)]
    assert ended.middles()[:4] == expected


def test_frames_without_groups_stand_as_they_came(tmp_path: Path, run_stream: RunStream) -> None:
    ds = made.image(WindowCenter=200, WindowWidth=400)
    made.set_grey(ds, np.stack([np.full((32, 32), 100 + 10 * i) for i in range(6)]))
    made.write(ds, tmp_path / "in" / "a.dcm")
    assert run_stream("montage", tmp_path / "in").middles()[:6] == rising(6)


def series_of(count: int, number: int, **attributes: object) -> list[Dataset]:
    uid = f"1.2.3.4.{number}"
    return made.axial(count, SeriesInstanceUID=uid, SeriesNumber=number, **attributes)


def test_each_series_has_a_montage_the_biggest_first_in_one_new_series(
    tmp_path: Path, run_stream: RunStream
) -> None:
    study = series_of(2, 5) + series_of(6, 9000) + series_of(1, 7)
    ended = run_stream("montage", made.write_shuffled(study, tmp_path / "in"))
    sources = [{s.ReferencedSOPInstanceUID for s in ds.SourceImageSequence} for ds in ended.results]
    assert sources == [
        {ds.SOPInstanceUID for ds in study if ds.SeriesNumber == number} for number in (9000, 5)
    ]
    assert len({ds.SeriesInstanceUID for ds in ended.results}) == 1
    assert {ds.SeriesNumber for ds in ended.results} == {9001}
    assert [ds.InstanceNumber for ds in ended.results] == [1, 2]


def test_a_single_image_is_shown_when_there_is_nothing_else(
    tmp_path: Path, run_stream: RunStream
) -> None:
    ended = run_stream("montage", made.write_shuffled(series_of(1, 3), tmp_path / "in"))
    assert ended.proc == {"success": "success", "message": "1 montage with 1 slice."}


def test_of_very_many_slices_400_are_shown_evenly_and_it_says_so(
    tmp_path: Path, run_stream: RunStream
) -> None:
    ds = made.image(WindowCenter=2048, WindowWidth=4096)
    frames = np.arange(451)[:, None, None] * np.ones((1, 8, 8))
    made.set_grey(ds, frames * 9)
    made.write(ds, tmp_path / "in" / "a.dcm")
    ended = run_stream("montage", tmp_path / "in")
    (result,) = ended.results
    (source,) = result.SourceImageSequence
    used = list(source.ReferencedFrameNumber)
    assert (len(used), used[0], used[-1]) == (400, 1, 451)
    assert max(b - a for a, b in itertools.pairwise(used)) == 2
    assert "400 of 451 slices, evenly spaced" in result.ImageComments
    assert "400 of 451 slices, evenly spaced" in ended.log
    assert max(result.Rows, result.Columns) <= 4096
    middles = ended.middles()[:400]
    assert middles == sorted(middles)


def test_files_of_one_name_in_two_folders_are_two_slices(
    tmp_path: Path, run_stream: RunStream
) -> None:
    for number, ds in enumerate(made.axial(2)):
        made.write(ds, tmp_path / "in" / str(number) / "a.dcm")
    ended = run_stream("montage", tmp_path / "in")
    assert ended.middles()[:2] == rising(2)
