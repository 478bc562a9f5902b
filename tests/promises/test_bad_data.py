"""Bad data by C-STORE: what is kept, what is refused, and that the receiver lives on."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from appliance.dicom import part10
from appliance.disk import quarantine
from tests.kit import peers
from tests.kit.dicom import ct_slice, write
from tests.kit.waiting import wait_for
from tests.promises.receiving import (
    LITTLE,
    bytes_of,
    data_file,
    put_aside,
    send,
    set_rules,
    violations,
)
from tests.service.conftest import Receiver
from tests.unit.dicom.test_header import nested

DEFLATED = "1.2.840.10008.1.2.1.99"
J2K, RLE, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.201"
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
MB = 1_000_000


@pytest.fixture
def living(shared_receiver: Receiver) -> Iterator[Receiver]:
    """The receiver, whose processes are still the same at the end."""
    before = {child.pid for child in shared_receiver.children()}
    yield shared_receiver
    assert {child.pid for child in shared_receiver.children()} == before
    assert [path for path in shared_receiver.waiting() if path.suffix != ".part"] == []


@pytest.fixture
def rules(living: Receiver) -> Iterator[Receiver]:
    """The receiver, whose settings are as before at the end."""
    yield living
    set_rules(living)


# -- what hurts nobody ----------------------------------------------------------------------


def without_patient_id(ds: Dataset, data: bytes) -> bytes:
    head = b"\x10\0\x20\0LO"
    at = data.index(head)
    length = struct.unpack_from("<H", data, at + 6)[0]
    return data[:at] + head + b"\0\0" + data[at + 8 + length :]


def with_leading_zeros(ds: Dataset, data: bytes) -> bytes:
    old = ds.SeriesInstanceUID.encode()
    return data.replace(old, b"1.002." + b"3" * (len(old) - 6))


def with_an_odd_length(ds: Dataset, data: bytes) -> bytes:
    # (0008,1010) Station Name, before Study Description
    at = data.index(b"\x08\0\x30\x10LO")
    return data[:at] + b"\x08\0\x10\x10SH" + struct.pack("<H", 3) + b"odd" + data[at:]


def with_short_pixels(ds: Dataset, data: bytes) -> bytes:
    at = data.rindex(b"\xe0\x7f\x10\0OW")
    length = struct.unpack_from("<L", data, at + 8)[0] - 100
    return data[: at + 8] + struct.pack("<L", length) + data[at + 12 : at + 12 + length]


HARMLESS: dict[str, Callable[[Dataset, bytes], bytes]] = {
    "no-patient-id": without_patient_id,
    "leading-zeros": with_leading_zeros,
    "odd-lengths": with_an_odd_length,
    "short-pixels": with_short_pixels,
}


@pytest.mark.parametrize("mark", HARMLESS)
def test_bi_10_what_hurts_nobody_is_kept_marked_and_answered_0x0000(
    living: Receiver, tmp_path: Path, mark: str
) -> None:
    ds = ct_slice()
    data = HARMLESS[mark](ds, bytes_of(ds, tmp_path))
    assert send(living, data_file(tmp_path / "a.dcm", data, ds)).Status == 0x0000
    row = living.instance(ds.SOPInstanceUID)
    assert row is not None
    assert row.marks == mark
    path = living.layout.root / row.path
    assert path.read_bytes()[part10.read_meta(path)[1] :] == data, "not a byte is changed"
    assert part10.read_file(path)[1].marks == (mark,), "the file tells it again"


def test_bi_10_with_the_setting_a_mark_is_a_warning_with_words(
    rules: Receiver, tmp_path: Path
) -> None:
    set_rules(rules, warn_of_marks=True)
    ds = ct_slice(patient_id="")
    answer = send(rules, write(ds, tmp_path / "a.dcm"))
    assert answer.Status == 0xB007
    assert answer.ErrorComment == "the Patient ID is empty"
    assert rules.instance(ds.SOPInstanceUID) is not None
    assert send(rules, write(ct_slice(), tmp_path / "b.dcm")).Status == 0x0000


# -- UIDs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "syntax"),
    [("SOPInstanceUID", LITTLE), ("StudyInstanceUID", IMPLICIT), ("SeriesInstanceUID", BIG_ENDIAN)],
)
def test_bi_07_a_missing_uid_is_refused_or_made(
    rules: Receiver, tmp_path: Path, keyword: str, syntax: str
) -> None:
    ds = ct_slice()
    uid = ds.SOPInstanceUID
    said = Dataset()
    said.SOPClassUID, said.SOPInstanceUID = ds.SOPClassUID, uid
    delattr(ds, keyword)
    file = data_file(tmp_path / "a.dcm", bytes_of(ds, tmp_path, syntax), said, syntax)
    answer = send(rules, file)
    assert answer.Status == 0xA900
    assert "absent" in answer.ErrorComment
    set_rules(rules, coerce=True)
    assert send(rules, file).Status == 0xB000
    row = rules.instance(uid)
    assert row is not None
    assert row.marks == "coerced"
    header = part10.read_file(rules.layout.root / row.path)[1]
    assert (header.study_uid, header.series_uid) == (row.study_uid, row.series_uid)
    assert header.marks == ("coerced",)
    wait_for(
        lambda: any("the node made" in one.sentence for one in rules.events("association closed")),
        "the association's event says so",
    )
    if keyword == "SOPInstanceUID":
        ds.SOPInstanceUID = uid
        file = write(ds, tmp_path / "as it was said.dcm")
    assert violations(rules, file) == []


@pytest.mark.parametrize("who", ["P-1", ""])
def test_bi_07_a_resend_without_study_uid_is_what_is_kept(
    rules: Receiver, tmp_path: Path, who: str
) -> None:
    set_rules(rules, coerce=True)
    study = [ct_slice(number, patient_id=who, patient_name=who) for number in (1, 2)]
    files = []
    for ds in study:
        del ds.StudyInstanceUID, ds.SeriesInstanceUID
        path = tmp_path / f"{ds.InstanceNumber}.dcm"
        files.append(data_file(path, bytes_of(ds, tmp_path), ds))
    for _ in range(2):
        report = peers.storescu(files, rules.port, "ECHO", calling="US1")
        assert report.acknowledged == files
    rows = [rules.instance(ds.SOPInstanceUID) for ds in study]
    assert len({(row.study_uid, row.series_uid) for row in rows if row is not None}) == 1
    assert all(row is not None and row.marks.endswith("coerced") for row in rows)
    assert not any(put_aside(rules, ds.SOPInstanceUID) for ds in study)
    assert violations(rules, *files) == []


def test_bi_07_two_patients_without_study_uids_are_two_studies(
    rules: Receiver, tmp_path: Path
) -> None:
    set_rules(rules, coerce=True)
    studies = []
    for patient_id in ("P-1", "P-2"):
        ds = ct_slice(patient_id=patient_id)
        del ds.StudyInstanceUID
        data = bytes_of(ds, tmp_path)
        assert send(rules, data_file(tmp_path / "a.dcm", data, ds)).Status == 0xB000
        row = rules.instance(ds.SOPInstanceUID)
        assert row is not None
        studies.append(row.study_uid)
    assert len(set(studies)) == 2


@pytest.mark.parametrize("which", ["bi_08", "bi_09"])
def test_bi_08_a_data_set_that_contradicts_its_request_is_0xA900(
    living: Receiver, tmp_path: Path, which: str
) -> None:
    ds, said = ct_slice(), Dataset()
    said.SOPClassUID, said.SOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    if which == "bi_08":
        said.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    else:
        said.SOPInstanceUID = "1.2.3.4.5"
    answer = send(living, data_file(tmp_path / "a.dcm", bytes_of(ds, tmp_path), said))
    assert answer.Status == 0xA900
    assert len(answer.ErrorComment) <= 64
    (entry,) = put_aside(living, said.SOPInstanceUID)[:1]
    assert entry.status == 0xA900
    assert living.instance(ds.SOPInstanceUID) is None


# -- structure ------------------------------------------------------------------------------


def a_sequence(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, len(body)) + body


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[:-10],
    "truncated in a header": lambda data: data + b"\xe1\x7f\x01\0OB",
    "longer than the buffer": lambda data: (
        data + struct.pack("<HH2sHL", 0x7FE1, 0x1010, b"OB", 0, 0xFFFFFFF0)
    ),
    "a delimiter out of place": lambda data: data + struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + b"\1",
    "an item longer than its sequence": lambda data: (
        a_sequence(struct.pack("<HHL", 0xFFFE, 0xE000, 1000), bytes(8)) + data
    ),
    "no item in a sequence": lambda data: a_sequence(struct.pack("<HHL", 0x0010, 0x0010, 0)) + data,
    "noise": lambda data: b"\x9d" * 5000,
}


@pytest.mark.parametrize("how", BROKEN)
def test_bi_10_what_cannot_be_walked_is_0xC000_and_in_quarantine(
    living: Receiver, tmp_path: Path, how: str
) -> None:
    ds = ct_slice()
    data = BROKEN[how](bytes_of(ds, tmp_path))
    answer = send(living, data_file(tmp_path / "a.dcm", data, ds))
    assert answer.Status == 0xC000
    (entry,) = put_aside(living, ds.SOPInstanceUID)
    assert (entry.status, entry.kind) == (0xC000, "refused")
    assert quarantine.file_of(living.layout, entry.id).read_bytes().endswith(data)
    assert living.instance(ds.SOPInstanceUID) is None
    good = write(ct_slice(), tmp_path / "good.dcm")
    assert send(living, good).Status == 0x0000


def test_bi_10_an_unknown_value_representation_is_kept(living: Receiver, tmp_path: Path) -> None:
    ds = ct_slice()
    data = bytes_of(ds, tmp_path)
    at = data.index(b"\x08\0\x30\x10LO")
    data = data[:at] + b"\x08\0\x10\x10??" + struct.pack("<H", 4) + b"what" + data[at:]
    assert send(living, data_file(tmp_path / "a.dcm", data, ds)).Status == 0x0000
    row = living.instance(ds.SOPInstanceUID)
    assert row is not None
    assert row.marks == "unknown-vr"


@pytest.mark.parametrize("defined", [True, False], ids=["stated", "open"])
@pytest.mark.parametrize(
    ("levels", "status"), [(64, 0x0000), (65, 0xC000), (400, 0xC000), (20_000, 0xC000)]
)
def test_bi_11_64_levels_of_nesting_are_kept_and_no_more(
    living: Receiver, tmp_path: Path, levels: int, status: int, defined: bool
) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", f"1.2.3.{levels}.{defined:d}"
    old = b"\x08\0\x18\0UI" + struct.pack("<H", 6) + b"1.2.3\0"
    new = ds.SOPInstanceUID.encode()
    new += b"\0" * (len(new) % 2)
    data = nested(levels, defined=defined)
    assert old in data
    data = data.replace(old, old[:6] + struct.pack("<H", len(new)) + new)
    assert send(living, data_file(tmp_path / "a.dcm", data, ds)).Status == status


# -- bombs ----------------------------------------------------------------------------------


def absurd(ds: Dataset, **facts: int) -> Dataset:
    for name, value in facts.items():
        setattr(ds, name, value)
    return ds


def compressed(ds: Dataset, folder: Path, fragment: bytes) -> bytes:
    """Encode with one fragment in place of the pixels."""
    del ds.PixelData
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    pixels += struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    pixels += struct.pack("<HHL", 0xFFFE, 0xE000, len(fragment)) + fragment
    return bytes_of(ds, folder) + pixels + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


def a_deflate_bomb(ds: Dataset, folder: Path) -> tuple[bytes, str]:
    ds.PixelData = bytes(400 * MB)
    return deflated(bytes_of(ds, folder)), DEFLATED


def a_huge_image(ds: Dataset, folder: Path) -> tuple[bytes, str]:
    return bytes_of(absurd(ds, Rows=65535, Columns=65535), folder), LITTLE


def an_overflowing_image(ds: Dataset, folder: Path) -> tuple[bytes, str]:
    return bytes_of(absurd(ds, Rows=46341, Columns=46341, BitsAllocated=255), folder), LITTLE


def endless_frames(ds: Dataset, folder: Path) -> tuple[bytes, str]:
    return bytes_of(absurd(ds, NumberOfFrames=2**31), folder), LITTLE


def long_rows(ds: Dataset, folder: Path) -> tuple[bytes, str]:
    data = bytes_of(ds, folder)
    short = b"\x28\0\x10\0US\x02\0"
    at = data.index(short)
    long = b"\x28\0\x10\0UL\x04\0" + struct.pack("<L", 0xFFFFFFFF)
    return data[:at] + long + data[at + 10 :], LITTLE


def a_j2k_bomb(ds: Dataset, folder: Path) -> tuple[bytes, str]:
    # SIZ of JPEG 2000 (ISO 15444-1 A.5.1): 2^31 x 2^31, and nothing behind it.
    siz = b"\xff\x4f\xff\x51" + struct.pack(">HHLL", 47, 0, 2**31 - 1, 2**31 - 1) + bytes(40)
    return compressed(absurd(ds, Rows=65535, Columns=65535), folder, siz), J2K


def an_htj2k_bomb(ds: Dataset, folder: Path) -> tuple[bytes, str]:
    return a_j2k_bomb(ds, folder)[0], HTJ2K


def an_rle_bomb(ds: Dataset, folder: Path) -> tuple[bytes, str]:
    segment = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * 100_000
    return compressed(absurd(ds, Rows=65535, Columns=65535), folder, segment), RLE


BOMBS = [
    a_deflate_bomb, a_huge_image, an_overflowing_image, endless_frames, long_rows, a_j2k_bomb,
    an_htj2k_bomb, an_rle_bomb,
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_bi_12_a_bomb_is_stored_and_costs_no_memory(
    living: Receiver, tmp_path: Path, bomb: Callable[[Dataset, Path], tuple[bytes, str]]
) -> None:
    ds = ct_slice()
    data, syntax = bomb(ds, tmp_path)
    file = data_file(tmp_path / "bomb.dcm", data, ds, syntax)
    before = {child.pid: child.memory_info().rss for child in living.children()}
    for pid in before:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew
    assert send(living, file).Status == 0x0000
    for pid, rss in before.items():
        assert peak_bytes(pid) - rss < 200 * MB
    row = living.instance(ds.SOPInstanceUID)
    assert row is not None
    path = living.layout.root / row.path
    assert path.read_bytes()[part10.read_meta(path)[1] :] == data
    assert violations(living) == []


def peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (peak,) = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return peak * 1024


# -- polyglots ------------------------------------------------------------------------------


def test_bi_17_a_stored_file_begins_with_the_nodes_own_zeros(
    living: Receiver, tmp_path: Path
) -> None:
    for begin in (b"#!/bin/sh\nrm -rf /\n", b"MZ\x90\0", b"\x7fELF", b"<html><script>"):
        ds = ct_slice()
        file = write(ds, tmp_path / "poly.dcm")
        raw = file.read_bytes()
        file.write_bytes(begin.ljust(128, b"\0") + raw[128:])
        assert send(living, file).Status == 0x0000
        row = living.instance(ds.SOPInstanceUID)
        assert row is not None
        assert (living.layout.root / row.path).read_bytes()[:132] == bytes(128) + b"DICM"
