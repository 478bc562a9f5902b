"""How a montage shows values: window, inversion, colour, shape, compressed input."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.streams import made
from tests.streams.conftest import Ended, RunStream


def shown(run_stream: RunStream, folder: Path, *study: Dataset) -> Ended:
    ended = run_stream("montage", made.write_shuffled(study, folder / "in"))
    assert ended.exit_code == 0, ended.log
    return ended


def test_a_ct_is_shown_by_the_first_window_of_its_file_in_hounsfield_units(
    tmp_path: Path, run_stream: RunStream
) -> None:
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    window = {"WindowCenter": [40, 600], "WindowWidth": [400, 2000]}
    study = [made.image(v, number=v, **rescale, **window) for v in (800, 1000, 1064, 1200, 1400)]
    middles = shown(run_stream, tmp_path, *study).middles()
    # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, cut to 0 and 255.
    assert middles[:5] == [0, round(((-24 - 39.5) / 399 + 0.5) * 255), 128, 215, 255]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR_EXACT", [0.25, 0.5, 0.75]),
        ("SIGMOID", [1 / (1 + math.exp(1)), 0.5, 1 / (1 + math.exp(-1))]),
    ],
)
def test_the_voi_lut_function_is_the_standards(
    tmp_path: Path, run_stream: RunStream, function: str, expected: list[float]
) -> None:
    window = {"WindowCenter": 200, "WindowWidth": 400, "VOILUTFunction": function}
    study = [made.image(value, number=value, **window) for value in (100, 200, 300)]
    middles = shown(run_stream, tmp_path, *study).middles()[:3]
    assert middles == pytest.approx([part * 255 for part in expected], abs=1)


def test_a_voi_lut_goes_before_the_window(tmp_path: Path, run_stream: RunStream) -> None:
    table = made.one(LUTDescriptor=[4, 0, 8], LUTData=[0, 200, 100, 255])
    extra = {"WindowCenter": 1, "WindowWidth": 2, "VOILUTSequence": [table]}
    study = [made.image(value, number=value + 1, **extra) for value in range(4)]
    for ds in study:
        ds["VOILUTSequence"].value[0]["LUTData"].VR = "US"
    assert shown(run_stream, tmp_path, *study).middles()[:4] == [0, 200, 100, 255]


def test_monochrome1_is_shown_inverted(tmp_path: Path, run_stream: RunStream) -> None:
    window = {"WindowCenter": 200, "WindowWidth": 400}
    inverted = {**window, "PhotometricInterpretation": "MONOCHROME1"}
    study = [made.image(value, number=value, **inverted) for value in (10, 100, 390)]
    dark = shown(run_stream, tmp_path / "a", *study).middles()[:3]
    study = [made.image(value, number=value, **window) for value in (10, 100, 390)]
    bright = shown(run_stream, tmp_path / "b", *study).middles()[:3]
    assert dark == [255 - value for value in bright]


def test_each_file_keeps_its_own_window_when_they_differ(
    tmp_path: Path, run_stream: RunStream
) -> None:
    low = made.image(100, 1, WindowCenter=100, WindowWidth=50)
    high = made.image(900, 2, WindowCenter=900, WindowWidth=50)
    none = made.image(900, 3)
    study = [low, high, none, made.image(900, 4, WindowCenter=900, WindowWidth=50)]
    # The third has none and gets the one that most of the others have.
    middles = shown(run_stream, tmp_path, *study).middles()[:4]
    assert max(middles) - min(middles) <= 1
    assert middles[0] == pytest.approx(128, abs=3)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 0, "WindowWidth": 0}])
def test_without_a_window_that_can_be_meant_one_for_all_comes_from_the_values(
    tmp_path: Path, run_stream: RunStream, window: dict[str, int]
) -> None:
    # Air around, tissue from 1000 to 1500, padding far below.
    study = []
    for number in range(1, 6):
        ds = made.image(0, number, modality="MR", PixelPaddingValue=0, **window)
        pixels = np.full((32, 32), 300)
        pixels[8:24, 8:24] = 900 + 100 * number
        pixels[0] = 0
        made.set_grey(ds, pixels)
        ds["PixelPaddingValue"].VR = "US"
        study.append(ds)
    ended = shown(run_stream, tmp_path, *study)
    middles = ended.middles()[:5]
    assert middles == sorted(set(middles))
    assert middles[4] > 250
    assert middles[4] - middles[0] > 90
    assert "from the image values" in ended.results[0].ImageComments
    assert int(ended.tiles()[4][8, 200]) == 0


def test_colour_stays_colour(tmp_path: Path, run_stream: RunStream) -> None:
    study = [made.coloured((200, 30, 60), number=1), made.coloured((10, 220, 90), number=2)]
    ended = shown(run_stream, tmp_path, *study)
    (result,) = ended.results
    assert (result.PhotometricInterpretation, result.SamplesPerPixel) == ("RGB", 3)
    assert ended.middles()[:2] == [(200, 30, 60), (10, 220, 90)]


def test_ycbcr_is_turned_to_rgb(tmp_path: Path, run_stream: RunStream) -> None:
    ds = made.coloured((76, 85, 255))
    ds.PhotometricInterpretation = "YBR_FULL"
    (middle,) = shown(run_stream, tmp_path, ds).middles()
    assert middle == pytest.approx((254, 0, 0), abs=2)


@pytest.mark.parametrize(
    ("bits", "entries"),
    [
        (8, [(0, 0, 0), (250, 120, 40)]),
        (16, [(0, 0, 0), (250, 120, 40)]),
        (16, [(65535, 0, 0), (250 * 257, 120 * 257, 40 * 257)]),
    ],
    ids=["8 bits", "8 bits in a 16-bit table", "16 bits"],
)
def test_a_palette_is_turned_to_rgb(
    tmp_path: Path, run_stream: RunStream, bits: int, entries: list[tuple[int, int, int]]
) -> None:
    ds = made.palette(entries, bits, index=1)
    if bits == 8:
        for name in ("Red", "Green", "Blue"):
            table = np.frombuffer(ds[f"{name}PaletteColorLookupTableData"].value, "<u2")
            ds[f"{name}PaletteColorLookupTableData"].value = table.astype("u1").tobytes()
    assert shown(run_stream, tmp_path, ds).middles() == [(250, 120, 40)]


def test_grey_and_colour_in_one_series_share_a_picture(
    tmp_path: Path, run_stream: RunStream
) -> None:
    grey = made.image(100, 1, modality="OT", WindowCenter=100, WindowWidth=50)
    ended = shown(run_stream, tmp_path, grey, made.coloured((200, 30, 60), number=2))
    assert ended.middles()[:2] == [pytest.approx((128,) * 3, abs=3), (200, 30, 60)]


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ({"PixelSpacing": [2, 1]}, (256, 128)),
        ({"PixelSpacing": [1, 2]}, (128, 256)),
        ({"PixelSpacing": None, "PixelAspectRatio": [2, 1]}, (256, 128)),
    ],
)
def test_pixels_that_are_not_square_are_drawn_in_their_shape(
    tmp_path: Path, run_stream: RunStream, attributes: dict[str, object], shape: tuple[int, int]
) -> None:
    ended = shown(run_stream, tmp_path, made.image(100, **attributes))
    assert ended.tiles()[0].shape == shape


def test_shrinking_averages_areas(tmp_path: Path, run_stream: RunStream) -> None:
    # Rows of 0 and 400 alternate: every shrunken pixel is grey, none black or white.
    ds = made.image(WindowCenter=200, WindowWidth=400)
    made.set_grey(ds, np.tile([[0], [400]], (4500, 512)))
    ended = shown(run_stream, tmp_path, ds)
    (result,) = ended.results
    assert max(result.Rows, result.Columns) <= 4096
    inside = ended.tiles()[0][100:-100, 50:-50]
    assert inside.min() > 100
    assert inside.max() < 155


@pytest.mark.parametrize("kind", ["RLE", "jp2klossless", "jpeg_ls_lossless", "bigendian"])
def test_a_compressed_slice_gives_the_picture_of_the_plain_one(
    tmp_path: Path, run_stream: RunStream, kind: str
) -> None:
    pictures = []
    for name in ("MR_small.dcm", f"MR_small_{kind}.dcm"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(str(get_testdata_file(name)), folder)
        ended = run_stream("montage", folder)
        assert ended.proc["success"] == "success", ended.log
        pictures.append(ended.results[0].pixel_array)
    assert np.array_equal(*pictures)


@pytest.mark.parametrize(
    ("name", "lossy"), [("SC_rgb_jpeg_dcmtk.dcm", "01"), ("examples_jpeg2k.dcm", "absent")]
)
def test_compressed_colour_is_in_colour_and_says_what_was_lost(
    tmp_path: Path, run_stream: RunStream, name: str, lossy: str
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(str(get_testdata_file(name)), tmp_path / "in")
    (result,) = run_stream("montage", tmp_path / "in").results
    assert result.PhotometricInterpretation == "RGB"
    assert result.get("LossyImageCompression", "absent") == lossy


def test_a_deflated_slice_is_shown(tmp_path: Path, run_stream: RunStream) -> None:
    ds = made.image(100, WindowCenter=100, WindowWidth=50)
    made.write(ds, tmp_path / "in" / "a.dcm", DeflatedExplicitVRLittleEndian)
    assert run_stream("montage", tmp_path / "in").middles() == [pytest.approx(128, abs=3)]


def test_what_cannot_be_decoded_is_named_and_the_rest_is_shown(
    tmp_path: Path, run_stream: RunStream
) -> None:
    good, short, huge = made.axial(3)
    short.PixelData = bytes(10)
    huge.Rows = huge.Columns = 65535
    folder = made.write_shuffled([good, short, huge], tmp_path / "in")
    (folder / "notes.txt").write_text("not DICOM")
    ended = run_stream("montage", folder)
    assert ended.exit_code == 0
    assert ended.proc["success"] == "partial"
    assert ended.proc["message"] == "1 montage with 1 slice; 3 problems, see the log."
    assert "its header says 65535x65535 pixels" in ended.log
    assert "notes.txt was left out: it cannot be read as DICOM" in ended.log
    assert "frame 1, cannot be decoded" in ended.log


def test_one_bad_frame_costs_only_itself(tmp_path: Path, run_stream: RunStream) -> None:
    ds = made.multi_frame(values=[100, 200, 300])
    ds.PixelData = ds.PixelData[: 2 * 2 * 32 * 32]
    made.write(ds, tmp_path / "in" / "a.dcm")
    ended = run_stream("montage", tmp_path / "in")
    assert ended.proc["message"].startswith("1 montage with 2 slices; 1 problem")
    assert list(ended.results[0].SourceImageSequence[0].ReferencedFrameNumber) == [1, 2]


@pytest.mark.parametrize("what", ["nothing", "undecodable"])
def test_nothing_to_show_is_a_failure_with_a_sentence(
    tmp_path: Path, run_stream: RunStream, what: str
) -> None:
    (tmp_path / "in").mkdir()
    if what == "undecodable":
        made.write(made.image(PixelData=bytes(10)), tmp_path / "in" / "a.dcm")
    ended = run_stream("montage", tmp_path / "in")
    assert ended.exit_code == 1
    assert ended.results == []
    sentence = "The input has no image that can be decoded, so there is no montage."
    assert ended.proc == {"success": "failed", "message": sentence}
    assert "Traceback" not in ended.log
