"""UIDs written over in files that grow; files that are of a patient or not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.dicom.names import uids_in, without_uids
from appliance.disk import overwrite, trash
from appliance.disk.layout import Layout
from appliance.erasure import key, leftovers
from appliance.erasure.leftovers import Matcher, Verdict
from appliance.errors import ErasureError
from appliance.index.extent import Subject
from tests.kit.dicom import ct_slice, write

UID = "1.2.826.0.1.3680043.8.498.123"
X = "x" * len(UID)
GOES, STAYS, OTHER = Verdict.GOES, Verdict.STAYS, Verdict.OTHER


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f'{{"study": "{UID}"}}', f'{{"study": "{X}"}}'),
        (f"of {UID}.", f"of {X}."),
        (f"{UID}4 {UID}.4 9.{UID}", f"{UID}4 {UID}.4 9.{UID}"),  # other, longer UIDs
        (f"/studies/ab/{UID}/{UID}.dcm", f"/studies/ab/{X}/{X}.dcm"),
    ],
)
def test_a_uid_is_written_over_and_no_part_of_a_longer_one(
    tmp_path: Path, text: str, left: str
) -> None:
    file = tmp_path / "a.log"
    file.write_text(text)
    overwrite.overwrite_in([file], {UID})
    assert file.read_text() == left == without_uids(text, {UID})
    assert (UID in uids_in(text)) == (text != left)


def test_a_uid_is_found_wherever_a_chunk_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overwrite, "_CHUNK", 600)
    file = tmp_path / "a.log"
    for before in range(540, 640):
        file.write_text("a" * before + UID + "\n" + f"{UID}7\n" * 50)
        assert overwrite.overwrite_in([file], {UID}) == 1
        assert file.read_text() == "a" * before + X + "\n" + f"{UID}7\n" * 50


def test_nothing_that_is_appended_meanwhile_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    lines = 3000

    def log() -> None:
        with file.open("a") as out:
            for number in range(lines):
                print(f"line {number} {UID}", file=out, flush=True)

    thread = threading.Thread(target=log)
    thread.start()
    while thread.is_alive():
        overwrite.overwrite_in_folder(tmp_path, {UID})
    thread.join()
    overwrite.overwrite_in_folder(tmp_path, {UID})
    assert file.read_text().splitlines() == [f"line {n} {X}" for n in range(lines)]


def test_a_file_is_read_to_know_whose_it_is(tmp_path: Path) -> None:
    ds = ct_slice(1)
    file = write(ds, tmp_path / "whole.dcm")
    patient = Matcher(Subject("patient", "P-SEEDED-1"), {}, [])
    study = Matcher(Subject("study", ds.StudyInstanceUID), {ds.StudyInstanceUID: None}, [])
    nobody = Matcher(Subject("patient", "P-SEEDED"), {"1.2.3": "P-SEEDED"}, [])
    for cut in (None, -100, 2000):  # a damaged one is searched for the elements
        file.write_bytes(file.read_bytes()[:cut])
        assert patient.judge(file) is study.judge(file) is GOES
        assert nobody.judge(file) is OTHER
    assert patient.judge(tmp_path / "gone.dcm") is OTHER


@pytest.mark.parametrize("subject", [Subject("patient", "P-A"), Subject("study", "1.5")])
@pytest.mark.parametrize(
    ("file", "is_told", "expected"),
    [
        (("P-A", "1.5", "1.5.1"), False, GOES),
        (("P-A ", "1.5", "1.9.1"), False, GOES),
        (("", "1.5", "1.9.1"), False, GOES),  # it names nobody else
        (("P-B", "1.5", "1.9.1"), False, STAYS),
        (("P-B", "1.5", "1.9.1"), True, STAYS),
        (("P-B", "1.9", "1.5.1"), True, STAYS),
        (("", "1.9", "1.5.1"), False, STAYS),
        (("P-B", "1.9", "1.9.1"), False, OTHER),
        (("", "1.9", "1.9.1"), False, OTHER),
        (("P-ANON", "1.6", "1.6.1"), False, GOES),  # a result of the patient's under another name
        (("P-B", "1.6", "1.9.1"), False, STAYS),
        (None, True, GOES),
        (None, False, OTHER),
    ],
)
def test_a_file_goes_with_the_patient_and_the_study_that_it_names_itself(
    tmp_path: Path,
    subject: Subject,
    file: tuple[str, str, str] | None,
    is_told: bool,
    expected: Verdict,
) -> None:
    matcher = Matcher(subject, {"1.5": "P-A", "1.6": "P-ANON"}, {"1.5.1", "1.6.1"})
    path = tmp_path / "one.dcm"
    if file:
        ds = ct_slice(1, patient_id=file[0], study_uid=file[1])
        ds.SOPInstanceUID = file[2]
        write(ds, path)
    else:
        path.write_bytes(b"not DICOM at all")
    words = '{"sop_instance_uid": "1.5.1"}' if is_told else '{"calling_ae_title": "P-A"}'
    assert matcher.judge(path, words) is expected


def test_what_came_to_quarantine_after_the_erasure_began_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    matcher = Matcher(Subject("patient", "P-SEEDED-1"), {}, [])
    old, new = (f"{n:023x}" for n in (1, 3))
    for name in (old, new):
        write(ct_slice(1), layout.quarantine / f"{name}.dcm").with_suffix(".json").write_text("{}")
    assert leftovers.remove_from_quarantine(layout, matcher, before=f"{2:023x}").goes == (old,)
    assert sorted(path.stem for path in layout.quarantine.iterdir()) == [new, new]


def test_one_erases_at_a_time_and_a_dead_one_holds_nobody_up(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with trash.held(layout, 0):
        assert not trash.is_free(layout)
        with pytest.raises(ErasureError, match="at work"), trash.held(layout, 0):
            raise AssertionError("two at once")
    assert trash.is_free(layout)


def test_the_key_is_made_once_whoever_asks_first(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    assert key.read(layout) is None
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(key.made(layout))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and len(found[0]) == 32
    assert layout.erasure_key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("erasure*")] == ["erasure.key"]
