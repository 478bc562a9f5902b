"""Echo gives every kind of instance back, changed only in what makes it a new one."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
)

from tests.streams import made
from tests.streams.conftest import RunStream

CHANGED = set(
    """
    SOPInstanceUID SeriesInstanceUID SeriesNumber SeriesDescription InstanceCreationDate
    InstanceCreationTime DerivationDescription SourceImageSequence SourceInstanceSequence
    ReferencedSeriesSequence ContributingEquipmentSequence
    """.split()  # noqa: SIM905
)
# As they lie on disk: RLE, JPEG 2000, JPEG-LS and JPEG, big endian, deflated, a cine,
# a dose, a report, an ECG, a plan.
OF_PYDICOM = [
    "MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_dcmtk.dcm",
    "MR_small_bigendian.dcm", "image_dfl.dcm", "examples_ybr_color.dcm", "rtdose.dcm",
    "test-SR.dcm", "waveform_ecg.dcm", "rtplan.dcm", "reportsi.dcm",
]  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def assert_copied(source: Dataset, result: Dataset) -> None:
    assert result.file_meta.TransferSyntaxUID == source.file_meta.TransferSyntaxUID
    assert result.SOPClassUID == source.SOPClassUID
    assert result.SOPInstanceUID != source.SOPInstanceUID
    for element in source:
        if element.keyword not in CHANGED and element.tag.element != 0:
            assert result[element.tag] == element, element.keyword


@pytest.mark.parametrize("name", OF_PYDICOM)
def test_every_kind_of_object_comes_back_with_its_bytes(
    tmp_path: Path, run_stream: RunStream, name: str
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(str(get_testdata_file(name)), tmp_path / "in")
    ended = run_stream("echo", tmp_path / "in")
    (result,) = ended.results
    source = pydicom.dcmread(tmp_path / "in" / name)
    assert_copied(source, result)
    if "PixelData" in source:
        assert bytes(result.PixelData) == bytes(source.PixelData)
    sources = result.get("SourceImageSequence", []) or result.SourceInstanceSequence
    assert sources[-1].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert ended.proc == {"success": "success", "message": "1 instance in 1 new series."}


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_the_transfer_syntax_is_kept(tmp_path: Path, run_stream: RunStream, syntax: str) -> None:
    source = made.image(321)
    del source.PixelData
    source.add_new("PixelData", "OW", bytes(range(256)) * 8)
    made.write(source, tmp_path / "in" / "a.dcm", syntax)
    (result,) = run_stream("echo", tmp_path / "in").results
    assert_copied(source, result)
    assert result.PixelData == source.PixelData


def test_each_series_becomes_one_new_series_with_a_free_number(
    tmp_path: Path, run_stream: RunStream
) -> None:
    numbers = {"1.2.3.4.1": 4, "1.2.3.4.2": 9000, "1.2.3.4.3": 1}
    study = [
        made.image(number=i, SeriesInstanceUID=uid, SeriesNumber=number)
        for uid, number in numbers.items()
        for i in range(3)
    ]
    ended = run_stream("echo", made.write_shuffled(study, tmp_path / "in"))
    assert ended.proc["message"] == "9 instances in 3 new series."
    made_from = {
        (ds.ReferencedSeriesSequence[0].SeriesInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber)
        for ds in ended.results
    }
    assert {(old, number) for old, _, number in made_from} == {
        ("1.2.3.4.3", 9001), ("1.2.3.4.1", 9002), ("1.2.3.4.2", 9003)
    }  # fmt: skip
    assert len({new for _, new, _ in made_from}) == 3


def test_geometry_is_kept(tmp_path: Path, run_stream: RunStream) -> None:
    study = {ds.SOPInstanceUID: ds for ds in made.axial(3)}
    ended = run_stream("echo", made.write_shuffled(list(study.values()), tmp_path / "in"))
    for result in ended.results:
        source = study[result.SourceImageSequence[0].ReferencedSOPInstanceUID]
        for keyword in ["FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient"]:
            assert result[keyword] == source[keyword]


def test_references_inside_are_kept_beside_the_new_ones(
    tmp_path: Path, run_stream: RunStream
) -> None:
    other = made.one(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    other.ReferencedSOPInstanceUID = "1.2.3.4.77.1"
    inside = made.one(SeriesInstanceUID="1.2.3.4.77", ReferencedInstanceSequence=[other])
    source = made.image(1, ReferencedSeriesSequence=[inside], SourceImageSequence=[other])
    made.write(source, tmp_path / "in" / "a.dcm")
    (result,) = run_stream("echo", tmp_path / "in").results
    assert result.ReferencedSeriesSequence[0] == inside
    assert [s.SeriesInstanceUID for s in result.ReferencedSeriesSequence] == [
        "1.2.3.4.77", source.SeriesInstanceUID
    ]  # fmt: skip
    assert [s.ReferencedSOPInstanceUID for s in result.SourceImageSequence] == [
        "1.2.3.4.77.1", source.SOPInstanceUID
    ]  # fmt: skip


def test_what_a_presentation_state_applies_to_is_not_touched(
    tmp_path: Path, run_stream: RunStream
) -> None:
    source = made.image(1, SOPClassUID=GrayscaleSoftcopyPresentationStateStorage, Modality="PR")
    for keyword in ["Rows", "Columns", "PixelData"]:
        del source[keyword]
    shown = made.one(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    shown.ReferencedSOPInstanceUID = "1.2.3.4.77.1"
    applies = made.one(SeriesInstanceUID="1.2.3.4.77", ReferencedImageSequence=[shown])
    source.ReferencedSeriesSequence = [applies]
    made.write(source, tmp_path / "in" / "a.dcm")
    (result,) = run_stream("echo", tmp_path / "in").results
    assert list(result.ReferencedSeriesSequence) == [applies]
    (named,) = result.SourceInstanceSequence
    assert named.ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_a_signature_of_the_source_is_not_passed_on(tmp_path: Path, run_stream: RunStream) -> None:
    source = made.image(1, DigitalSignaturesSequence=[made.one(MACIDNumber=1)])
    made.write(source, tmp_path / "in" / "a.dcm")
    (result,) = run_stream("echo", tmp_path / "in").results
    assert "DigitalSignaturesSequence" not in result


def test_what_cannot_be_read_is_named_and_the_rest_comes_back(
    tmp_path: Path, run_stream: RunStream
) -> None:
    folder = made.write_shuffled(made.axial(2), tmp_path / "in")
    (folder / "notes.txt").write_text("not DICOM")
    shutil.copy(folder / "00000.dcm", folder / "again.dcm")
    ended = run_stream("echo", folder)
    assert ended.exit_code == 0
    sentence = "2 instances in 1 new series; 2 files left out, see the log."
    assert ended.proc == {"success": "partial", "message": sentence}
    assert "notes.txt was left out: it cannot be read as DICOM" in ended.log
    assert "again.dcm was left out: it is the same instance as 00000.dcm." in ended.log


def test_nothing_to_copy_is_a_failure_with_a_sentence(
    tmp_path: Path, run_stream: RunStream
) -> None:
    (tmp_path / "in").mkdir()
    ended = run_stream("echo", tmp_path / "in")
    assert ended.exit_code == 1
    assert ended.proc["success"] == "failed"
    assert "no instance that can be copied" in ended.proc["message"]


@pytest.mark.parametrize("folder", ["ct-head", "mr-t1", "objects", "compressed"])
def test_dciodvfy_finds_in_real_copies_only_what_their_sources_have(
    tmp_path: Path,
    run_stream: RunStream,
    errors_in: Callable[[Path], list[str]],
    real_data: Path,
    folder: str,
) -> None:
    sources: dict[str, Path] = {}
    for path in sorted((real_data / folder).rglob("*.dcm")):
        uid = str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        sources.setdefault(uid, path)
    ended = run_stream("echo", real_data / folder)
    copies = sorted(ended.output.glob("*.dcm"))
    assert len(copies) == len(sources)
    for copy in copies:
        ds = pydicom.dcmread(copy, stop_before_pixels=True)
        named = ds.get("SourceImageSequence") or ds.SourceInstanceSequence
        source = sources[named[-1].ReferencedSOPInstanceUID]
        assert not Counter(errors_in(copy)) - Counter(errors_in(source)), source
