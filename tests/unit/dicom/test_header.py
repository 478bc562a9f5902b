from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from appliance.dicom import part10, structure
from appliance.dicom.header import read_header
from appliance.errors import CannotUnderstand, DoesNotMatch, InstanceRefused
from tests.kit.dicom import ct_slice

LITTLE = str(ExplicitVRLittleEndian)


def encoded(ds: Dataset, transfer_syntax_uid: str = LITTLE) -> bytes:
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian = transfer_syntax_uid != ExplicitVRBigEndian
    buffer.is_implicit_VR = transfer_syntax_uid == ImplicitVRLittleEndian
    write_dataset(buffer, ds)
    plain = buffer.getvalue()
    if transfer_syntax_uid != DeflatedExplicitVRLittleEndian:
        return plain
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(plain) + deflater.flush()


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def nested(levels: int, *, defined: bool) -> bytes:
    """Sequences in sequences after the four UIDs."""
    if not defined:
        opening = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
        opening += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        closing = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        return encoded(uids()) + opening * levels + closing * levels
    body = b""
    for _ in range(levels):
        body = struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body
        body = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, len(body)) + body
    return encoded(uids()) + body


def uids() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.4", "1.2.3.5"
    return ds


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_the_same_facts_are_read_in_every_encoding(syntax: str) -> None:
    ds = ct_slice(7)
    header = read_header(encoded(ds, syntax), syntax)
    assert header.sop_instance_uid == ds.SOPInstanceUID
    assert header.study_uid == ds.StudyInstanceUID
    assert (header.instance_number, header.modality, header.sex) == ("7", "CT", "O")
    assert header.patient_name == "Seeded^Name"
    assert header.transfer_syntax_uid == syntax


@pytest.mark.parametrize(
    ("charset", "raw", "shown"),
    [
        (b"ISO_IR 100", b"B\xe4r^J\xf6rg", "Bär^Jörg"),
        (b"ISO_IR 192", "Зюмин^Яша".encode(), "Зюмин^Яша"),
        (b"ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        (b"GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
         "Yamada^Tarou=山田^太郎"),
        (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
         "Hong^Gildong=洪^吉洞"),
        (b"ISO-IR 100", b"B\xe4r", "Bär"),
        (b"ISO_IR 192", b"B\xe4r", "B�r"),
        (b"NO SUCH SET", b"B\xe4r", "Bär"),
    ],
)  # fmt: skip
def test_text_is_read_by_its_character_set(charset: bytes, raw: bytes, shown: str) -> None:
    data = element(0x0008, 0x0005, b"CS", charset) + encoded(uids())
    data += element(0x0010, 0x0010, b"PN", raw)
    assert read_header(data, LITTLE).patient_name == shown


def test_bi_06_nothing_that_steers_a_terminal_reaches_the_index() -> None:
    data = encoded(uids()) + element(0x0010, 0x0020, b"LO", b"1\x1b[31m\x9b2\r\n3\x7f")
    assert read_header(data, LITTLE).patient_id == "1[31m2  3"


def test_nul_never_reaches_the_index() -> None:
    data = encoded(uids()) + element(0x0010, 0x0020, b"LO", b"12\x0034\0")
    assert read_header(data, LITTLE).patient_id == "1234"


def test_bi_07_an_old_instance_without_patient_id_and_with_leading_zeros_is_accepted() -> None:
    ds = uids()
    data = encoded(ds).replace(b"1.2.3.5\0", b"1.02.3.5")
    assert read_header(data, LITTLE).series_uid == "1.02.3.5"


def test_odd_lengths_and_short_pixel_data_are_accepted() -> None:
    data = encoded(uids()) + element(0x0010, 0x0010, b"PN", b"Odd")
    data += element(0x0028, 0x0010, b"US", struct.pack("<H", 512))
    data += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 3) + b"abc"
    assert read_header(data, LITTLE).patient_name == "Odd"


def test_an_unknown_value_representation_is_walked_over() -> None:
    ds = encoded(uids())
    long = struct.pack("<HH2sHL", 0x0041, 0x0010, b"ZZ", 0, 4) + b"abcd"
    short = struct.pack("<HH2sH", 0x0041, 0x0011, b"QQ", 4) + b"abcd"
    assert read_header(ds + long + short, LITTLE).sop_instance_uid == "1.2.3"


def test_implicit_bytes_in_an_explicit_context_are_understood() -> None:
    assert read_header(encoded(ct_slice(), ImplicitVRLittleEndian), LITTLE).modality == "CT"


def test_zero_bytes_after_the_end_are_padding() -> None:
    assert read_header(encoded(uids()) + bytes(100), LITTLE).sop_instance_uid == "1.2.3"


def test_zeros_that_a_byte_follows_cost_no_time() -> None:
    started = time.process_time()
    with pytest.raises(CannotUnderstand):
        read_header(encoded(uids()) + bytes(900_000) + b"\1", LITTLE)
    assert time.process_time() - started < 5.0


def test_an_element_longer_than_the_data_set_is_refused_by_its_tag() -> None:
    data = encoded(uids()) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 2**32 - 2) + b"abc"
    with pytest.raises(CannotUnderstand, match=r"\(7FE0,0010\).* 3 are left") as refused:
        read_header(data, LITTLE)
    assert refused.value.status == 0xC000


@pytest.mark.parametrize("defined", [True, False])
def test_bi_11_64_levels_pass_and_65_do_not(defined: bool) -> None:
    assert read_header(nested(64, defined=defined), LITTLE).sop_instance_uid == "1.2.3"
    with pytest.raises(CannotUnderstand, match="64 levels"):
        read_header(nested(65, defined=defined), LITTLE)


@pytest.mark.parametrize("levels", [400, 20_000])
def test_bi_11_deep_nesting_costs_no_stack_and_no_time(levels: int) -> None:
    data = nested(levels, defined=False)
    started = time.process_time()
    with pytest.raises(CannotUnderstand):
        read_header(data, LITTLE)
    assert time.process_time() - started < 1


def test_bi_12_a_deflate_bomb_is_inflated_only_so_far() -> None:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(
        encoded(uids()) + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 400 * 2**20)
    )
    zeros = bytes(2**20)
    bomb += b"".join(deflater.compress(zeros) for _ in range(400)) + deflater.flush()
    assert len(bomb) < 2**20
    header = read_header(bomb, DeflatedExplicitVRLittleEndian)
    assert header.sop_instance_uid == "1.2.3"


@pytest.mark.parametrize("cut", [1, 7, 9, 30])
def test_a_deflated_data_set_that_breaks_off_is_refused(cut: int) -> None:
    data = encoded(ct_slice(), DeflatedExplicitVRLittleEndian)
    with pytest.raises(CannotUnderstand):
        read_header(data[:-cut], DeflatedExplicitVRLittleEndian)


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_a_missing_uid_does_not_match_and_is_named(keyword: str) -> None:
    ds = uids()
    delattr(ds, keyword)
    with pytest.raises(DoesNotMatch, match="absent or empty") as refused:
        read_header(encoded(ds), LITTLE)
    assert refused.value.status == 0xA900


@pytest.mark.parametrize(
    "bad",
    [
        b"../../etc",
        b"1.2/3",
        b"1.2\\1.3",
        b"1" * 66,
        b"abc\xff",
        "1.\N{ARABIC-INDIC DIGIT TWO}".encode(),
    ],
)
def test_bi_04_what_is_no_uid_is_not_understood(bad: bytes) -> None:
    data = element(0x0008, 0x0016, b"UI", b"1.2") + element(0x0008, 0x0018, b"UI", bad)
    data += element(0x0020, 0x000D, b"UI", b"1.2") + element(0x0020, 0x000E, b"UI", b"1.2")
    with pytest.raises(CannotUnderstand, match="SOP Instance UID"):
        read_header(data, LITTLE)


def test_an_item_delimiter_out_of_place_is_refused() -> None:
    data = encoded(uids()) + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    with pytest.raises(CannotUnderstand, match="delimiter"):
        read_header(data, LITTLE)


def test_private_and_nested_sequences_are_walked() -> None:
    ds = ct_slice()
    inner = Dataset()
    inner.PatientID = "inner"
    ds.ReferencedSeriesSequence = Sequence([inner])
    assert read_header(encoded(ds), LITTLE).patient_id == "P-SEEDED-1"


SEED = encoded(ct_slice(size=4))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=8),
       st.integers(0, len(SEED)), st.sampled_from([
           ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
           DeflatedExplicitVRLittleEndian]))  # fmt: skip
def test_bi_10_no_bytes_raise_anything_but_a_refusal(
    changes: list[tuple[int, int]], cut: int, syntax: str
) -> None:
    data = bytearray(SEED[:cut])
    for at, value in changes:
        if at < len(data):
            data[at] = value
    try:
        read_header(bytes(data), syntax)
    except InstanceRefused:
        pass


def test_every_file_of_pydicom_is_read_as_pydicom_reads_it() -> None:
    for name in ("CT_small.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "rtplan.dcm"):
        path = Path(str(get_testdata_file(name)))
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        _, header, _ = part10.read_file(path.read_bytes())
        assert header.sop_instance_uid == ds.SOPInstanceUID
        assert header.patient_name == str(ds.PatientName)


def test_the_guess_of_an_encoding_knows_the_three_kinds() -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian):
        assert structure.guess_transfer_syntax(encoded(uids(), syntax)[:8]) == syntax
