"""What is decoded has the values and the pixels that pydicom reads, and says what it lost."""

from __future__ import annotations

import io
import struct
from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.pixels import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from appliance.dicom import decoded, part10
from appliance.errors import CannotUnderstand
from tests.kit import dicom, require

# pydicom's own files break the standard here and there, and it says so.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom.*")

TO = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
TAKES_PART = (
    "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "image_dfl.dcm", "rtplan.dcm",
    "rtdose_expb_1frame.dcm", "rtdose_rle.dcm", "SC_rgb_rle_32bit_2frame.dcm",
    "J2K_pixelrep_mismatch.dcm", "test-SR.dcm",
    "SC_rgb_small_odd_big_endian.dcm", "SC_rgb_rle_2frame.dcm", "examples_jpeg2k.dcm",
    "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_jls_lossy_line.dcm", "JPGExtended.dcm", "693_J2KI.dcm",
    "liver_expb_1frame.dcm", "liver_1frame.dcm", "waveform_ecg.dcm", "UN_sequence.dcm",
    "priv_SQ.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_ybr_full_422_uncompressed.dcm",
)  # fmt: skip
# Elements that say how pixels are written, and what a lossy image must say.
MAY_CHANGE = {"PhotometricInterpretation", "PlanarConfiguration", "PixelData",
              "LossyImageCompression", "LossyImageCompressionRatio",
              "LossyImageCompressionMethod"}  # fmt: skip


def decode(file: Path, to: str) -> Dataset:
    """Decode a file, and read what came of it."""
    target = io.BytesIO()
    meta, start = part10.read_meta(file)
    with file.open("rb") as source:
        decoded.write(source, start, meta.transfer_syntax_uid, target, to)
    target.seek(0)
    ds = read_dataset(target, to == ImplicitVRLittleEndian, True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = to
    return ds


def differences(one: Dataset, other: Dataset) -> list[str]:
    """Name the elements of which two data sets do not hold the same; group lengths are none."""
    kept = {element.tag for element in one if element.tag.element}
    found = [str(tag) for tag in kept.symmetric_difference({element.tag for element in other})]
    for element in one:
        if element.tag not in other or element.tag not in kept:
            continue
        same = other[element.tag]
        if element.VR == "SQ" and same.VR == "SQ":
            for ours, theirs in zip(element.value, same.value, strict=True):
                found += differences(ours, theirs)
        elif element.tag.is_private and element.VR != same.VR:
            continue  # implicit, it is as the dictionary believes
        elif element.value != same.value:
            found.append(element.name)
    return [name for name in found if name not in MAY_CHANGE_NAMES]


MAY_CHANGE_NAMES = {
    name
    for keyword in MAY_CHANGE
    for tag in [pydicom.datadict.tag_for_keyword(keyword)]
    if tag is not None
    for name in (str(pydicom.tag.Tag(tag)), pydicom.datadict.dictionary_description(tag))
}


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("name", TAKES_PART)
def test_what_is_decoded_holds_the_values_and_pixels_that_pydicom_reads(name: str, to: str) -> None:
    same(Path(str(get_testdata_file(name, download=False))), to)


def same(file: Path, to: str) -> None:
    expected, found = pydicom.dcmread(file, force=True), decode(file, to)
    assert differences(expected, found) == []
    if "PixelData" in expected and "BitsAllocated" in expected:
        assert np.array_equal(pixel_array(expected), pixel_array(found))


def test_every_real_image_is_decoded_or_has_no_decoder() -> None:
    folder = require.real_data() / "compressed" / "cornerstone"
    cannot = []
    for file in sorted(folder.glob("*.dcm")):
        if "BigEndian" in file.name:
            continue  # pydicom turns unknown values of private elements round, which nobody may
        try:
            same(file, ExplicitVRLittleEndian)
        except CannotUnderstand as error:
            cannot.append(str(error))
    assert len(cannot) == 2
    assert all("there is no decoder for JPEG" in why for why in cannot)


def test_what_was_lossy_says_so_with_ratio_and_method(tmp_path: Path) -> None:
    folder = require.real_data() / "compressed" / "cornerstone"
    [file] = folder.glob("*JPEG2000TransferSyntax*")
    ds = pydicom.dcmread(file)
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio"):
        ds.pop(keyword, None)
    ds.save_as(tmp_path / "lossy.dcm")
    found = decode(tmp_path / "lossy.dcm", ExplicitVRLittleEndian)
    assert found.LossyImageCompression == "01"
    assert found.LossyImageCompressionMethod == "ISO_15444_1"
    ratio = len(found.PixelData) / len(ds.PixelData)
    assert found.LossyImageCompressionRatio == pytest.approx(ratio, rel=0.01)
    assert found.SOPInstanceUID == ds.SOPInstanceUID


def test_what_a_lossy_file_says_itself_is_kept(tmp_path: Path) -> None:
    ds = pydicom.dcmread(str(get_testdata_file("SC_rgb_small_odd_jpeg.dcm")))
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionRatio = "12.5"
    ds.LossyImageCompressionMethod = "ISO_10918_1"
    ds.save_as(tmp_path / "said.dcm")
    found = decode(tmp_path / "said.dcm", ImplicitVRLittleEndian)
    assert found.LossyImageCompressionRatio == 12.5
    assert found.PhotometricInterpretation == "RGB"


def test_lossless_says_nothing_of_loss() -> None:
    found = decode(Path(str(get_testdata_file("MR_small_RLE.dcm"))), ExplicitVRLittleEndian)
    assert "LossyImageCompression" not in found


@pytest.mark.parametrize("to", TO)
def test_uncompressed_comes_back_as_it_was(tmp_path: Path, to: str) -> None:
    made = dicom.ct_slice()
    made.add_new(0x00091001, "UN", b"abc\0")
    first = dicom.write(deepcopy(made), tmp_path / "first.dcm", ExplicitVRLittleEndian)
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        ds = deepcopy(made)
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
        found = decode(dicom.write(ds, tmp_path / "second.dcm", syntax), to)
        assert differences(pydicom.dcmread(first), found) == []
        assert found.PixelData == made.PixelData


def test_broken_frames_are_not_decoded(tmp_path: Path) -> None:
    ds = dicom.ct_slice()
    dicom.write(ds, tmp_path / "plain.dcm")
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.NumberOfFrames = 3
    ds.save_as(tmp_path / "fewer.dcm")
    with pytest.raises((CannotUnderstand, ValueError)):
        decode(tmp_path / "fewer.dcm", ExplicitVRLittleEndian)
    ds.NumberOfFrames = 1
    ds.save_as(tmp_path / "cut.dcm")
    whole = (tmp_path / "cut.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-600])
    with pytest.raises(CannotUnderstand, match="ends in the middle of its pixels"):
        decode(tmp_path / "cut.dcm", ExplicitVRLittleEndian)


def test_a_native_image_that_is_cut_is_not_sent_as_a_whole(tmp_path: Path) -> None:
    file = dicom.write(dicom.ct_slice(), tmp_path / "cut.dcm")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CannotUnderstand, match="ends in the middle of its pixels"):
        decode(file, ImplicitVRLittleEndian)


def test_a_long_value_of_a_short_representation_becomes_unknown(tmp_path: Path) -> None:
    ds = dicom.ct_slice()
    file = dicom.write(ds, tmp_path / "long.dcm", ImplicitVRLittleEndian)
    long = struct.pack("<HHL", 0x0018, 0x0010, 70000) + b"a" * 70000
    data = file.read_bytes()
    at = data.index(struct.pack("<HH", 0x0018, 0x0050))
    file.write_bytes(data[:at] + long + data[at:])
    found = decode(file, ExplicitVRLittleEndian)
    assert found.get_item(0x00180010).VR == "UN"
    assert found.PixelData == ds.PixelData
