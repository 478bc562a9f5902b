"""What every result of a shipped stream says of its patient, its sources and its maker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tests.streams import made
from tests.streams.conftest import Ended, RunStream

KEPT = [
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName", "StudyDescription",
]  # fmt: skip


@pytest.fixture
def study() -> list[Dataset]:
    return made.axial(5)


@pytest.fixture(params=["echo", "montage"])
def stream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(run_stream: RunStream, stream: str, folder: Path, **keys: object) -> Ended:
    ended = run_stream(stream, folder, **keys)
    assert ended.exit_code == 0, ended.log
    return ended


def test_patient_and_study_are_those_of_the_input(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    for result in run(run_stream, stream, made.write_shuffled(study, tmp_path / "in")).results:
        for keyword in KEPT:
            assert result[keyword] == study[0][keyword], keyword
        assert result["PatientName"].value.original_string == "Müller^Seeded".encode("latin-1")


@pytest.mark.filterwarnings("ignore:.*VR:UserWarning")
def test_uids_with_leading_zeros_stay_as_they_are(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    for ds in study:
        ds["StudyInstanceUID"] = made.unchecked("UI", "StudyInstanceUID", "1.02.3")
        ds["FrameOfReferenceUID"] = made.unchecked("UI", "FrameOfReferenceUID", "1.02.4")
    results = run(run_stream, stream, made.write_shuffled(study, tmp_path / "in")).results
    assert {result.StudyInstanceUID for result in results} == {"1.02.3"}
    assert {result.get("FrameOfReferenceUID", "1.02.4") for result in results} == {"1.02.4"}


def test_every_reference_resolves_and_names_every_source(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    ended = run(run_stream, stream, made.write_shuffled(study, tmp_path / "in"))
    sources = {ds.SOPInstanceUID: ds for ds in study}
    named = set()
    for result in ended.results:
        in_series = {
            item.ReferencedSOPInstanceUID: series.SeriesInstanceUID
            for series in result.ReferencedSeriesSequence
            for item in series.ReferencedInstanceSequence
        }
        images = {item.ReferencedSOPInstanceUID for item in result.SourceImageSequence}
        assert images == set(in_series)
        for item in result.SourceImageSequence:
            source = sources[item.ReferencedSOPInstanceUID]
            assert item.ReferencedSOPClassUID == source.SOPClassUID
            assert in_series[source.SOPInstanceUID] == source.SeriesInstanceUID
        named |= images
    assert named == set(sources)


def test_it_says_what_made_it_and_that_it_is_research(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    folder = made.write_shuffled(study, tmp_path / "in")
    name = stream.capitalize()
    for result in run(run_stream, stream, folder).results:
        maker = result.ContributingEquipmentSequence[-1]
        assert maker.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert (maker.ManufacturerModelName, maker.SoftwareVersions) == (name, "1.0.0")
        assert f"image brookbox/{stream}:1.0.0" in maker.ContributionDescription
        assert result.SeriesDescription.endswith("research, not for diagnosis")
        assert result.DerivationDescription.endswith("Research, not for diagnosis.")
    for result in run(run_stream, stream, folder, diagnostic=True).results:
        assert "diagnosis" not in str(result.top() + str(result.SeriesDescription))
        assert "diagnosis" not in result.DerivationDescription


def test_a_second_attempt_makes_the_same_bytes_and_another_job_other_instances(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    folder = made.write_shuffled(study, tmp_path / "in")
    attempts = [run(run_stream, stream, folder, seed=seed) for seed in ("a", "a", "b")]
    names = sorted(path.name for path in attempts[0].output.glob("*.dcm"))
    for name in names:
        first, second = ((ended.output / name).read_bytes() for ended in attempts[:2])
        assert first == second
    uids = [{ds.SOPInstanceUID for ds in ended.results} for ended in attempts]
    series = [{ds.SeriesInstanceUID for ds in ended.results} for ended in attempts]
    assert uids[0] == uids[1]
    assert not uids[0] & uids[2]
    assert not series[0] & series[2]
    assert not uids[0] & {ds.SOPInstanceUID for ds in study}
    assert all(re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid) for uid in uids[0] | series[0])


def test_run_by_hand_it_makes_new_instances_each_time(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    folder = made.write_shuffled(study, tmp_path / "in")
    first, second = (run(run_stream, stream, folder, seed=None) for _ in range(2))
    assert len(first.results) == len(second.results) > 0
    uids = [ds.SOPInstanceUID for ended in (first, second) for ds in ended.results]
    assert len(uids) == len(set(uids))
    maker = first.results[0].ContributingEquipmentSequence[-1]
    assert maker.ManufacturerModelName == stream.capitalize()


def test_progress_is_complete_and_the_log_names_nobody(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    folder = made.write_shuffled(study, tmp_path / "in")
    (folder / "broken.dcm").write_bytes((folder / "00001.dcm").read_bytes()[:700])
    ended = run(run_stream, stream, folder)
    assert ended.progress["done"] == ended.progress["of"] > 0
    said = ended.log + json.dumps(ended.proc)
    assert not re.search(r"ller|Seeded|SEEDED|Doctor", said)
    assert not list(ended.output.glob("*.part"))


def test_empty_and_broken_attributes_of_the_source_are_not_passed_on(
    tmp_path: Path, run_stream: RunStream, errors_in: Callable[[Path], list[str]]
) -> None:
    study = made.axial(2)
    for ds in study:
        ds["PatientAge"] = made.unchecked("AS", "PatientAge", "42")
        ds.add_new("PatientIdentityRemoved", "CS", "YES")
        ds.add_new("DeidentificationMethod", "LO", "")
        ds.BodyPartExamined = "KNEE"
        del ds.StudyID
    ended = run(run_stream, "montage", made.write_shuffled(study, tmp_path / "in"))
    assert errors_in(ended.output / "montage-1.dcm") == []
    assert "PatientAge" not in ended.results[0]


@pytest.mark.parametrize(
    "images",
    [
        made.axial(4),
        made.axial(4, modality="MR"),
        [made.coloured((200, 30, 60), frames=3)],
        [made.multi_frame([100, 200, 300])],
        [made.image(modality="OT", BodyPartExamined="HAND")],
    ],
    ids=["CT", "MR", "colour cine", "enhanced MR", "hand"],
)
def test_dciodvfy_finds_no_error_in_a_montage(
    tmp_path: Path,
    run_stream: RunStream,
    errors_in: Callable[[Path], list[str]],
    images: list[Dataset],
) -> None:
    ended = run(run_stream, "montage", made.write_shuffled(images, tmp_path / "in"))
    assert errors_in(ended.output / "montage-1.dcm") == []


@pytest.mark.parametrize(
    ("folder", "slices"),
    [("ct-head", 28), ("ct-abdomen", 51), ("mr-brain", 20), ("mr-t1", 30)],
)
def test_dciodvfy_finds_no_error_in_a_montage_of_real_data(
    run_stream: RunStream,
    errors_in: Callable[[Path], list[str]],
    real_data: Path,
    folder: str,
    slices: int,
) -> None:
    ended = run(run_stream, "montage", real_data / folder)
    assert ended.proc["message"] == f"1 montage with {slices} slices."
    # The UIDs of mr-brain have no valid root; a result has to name them all the same.
    inherited = {str(ds.StudyInstanceUID) for ds in ended.results}
    errors = [e for e in errors_in(ended.output / "montage-1.dcm") if "Illegal root" not in e]
    assert errors == []
    assert len(inherited) == 1


def test_real_colour_test_patterns_are_alike_in_every_transfer_syntax(
    tmp_path: Path,
    run_stream: RunStream,
    errors_in: Callable[[Path], list[str]],
    real_data: Path,
) -> None:
    (tmp_path / "in").mkdir()
    for path in (real_data / "compressed").rglob("TestPattern_*.dcm"):
        (tmp_path / "in" / path.name).symlink_to(path)
    ended = run(run_stream, "montage", tmp_path / "in")
    count = len(list((tmp_path / "in").iterdir()))
    assert ended.proc["message"] == f"1 montage with {count} slices."
    assert errors_in(ended.output / "montage-1.dcm") == []
    tiles = [tile[100:300, 150:450].astype(int) for tile in ended.tiles()[:count]]
    assert all(abs(tile - tiles[0]).mean() < 6 for tile in tiles)


def test_an_input_folder_that_is_not_there_is_said(tmp_path: Path, run_stream: RunStream) -> None:
    ended = run_stream("echo", tmp_path / "nowhere")
    assert ended.exit_code == 1
    assert ended.proc["message"].startswith("There is no input folder")


def test_a_second_job_of_the_study_numbers_its_series_apart(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    folder = made.write_shuffled(study, tmp_path / "in")
    told = {"first_series_number": 9100}
    numbers = {ds.SeriesNumber for ds in run_stream(stream, folder, told=told).results}
    assert numbers == {9100}


def test_no_image_is_named_where_none_ran(
    tmp_path: Path, run_stream: RunStream, stream: str, study: list[Dataset]
) -> None:
    folder = made.write_shuffled(study, tmp_path / "in")
    for result in run_stream(stream, folder, told={"image": ""}).results:
        assert "image" not in result.ContributingEquipmentSequence[-1].ContributionDescription
