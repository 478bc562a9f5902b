from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from appliance.dicom import part10, statuses
from appliance.errors import InstanceRefused
from tests.kit.dicom import ct_slice, write

META = part10.FileMeta(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    sop_instance_uid="1.2.3",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    source_ae_title="BROOKBOX",
    sending_ae_title="CT1",
    receiving_ae_title="ProcPics",
    source_address="dicom:10.0.0.1:11113",
    sending_address="dicom:10.0.0.9:4711",
    receiving_address="dicom:10.0.0.1:11113",
)


def test_pydicom_reads_the_file_meta_that_we_write() -> None:
    ds = pydicom.dcmread(io.BytesIO(part10.encode(META) + b"\x08\x00\x60\x00CS\x02\x00CT"))
    meta = ds.file_meta
    assert ds.preamble == bytes(128)
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.SourceApplicationEntityTitle == "BROOKBOX"
    assert meta.SendingApplicationEntityTitle == "CT1"
    assert meta.ReceivingApplicationEntityTitle == "ProcPics"
    assert meta.SourcePresentationAddress == "dicom:10.0.0.1:11113"
    assert meta.SendingPresentationAddress == "dicom:10.0.0.9:4711"
    assert meta.ReceivingPresentationAddress == "dicom:10.0.0.1:11113"
    assert meta.FileMetaInformationGroupLength == len(part10.encode(META)) - 132 - 12
    assert ds.Modality == "CT"


def test_what_is_written_is_read_back() -> None:
    whole = part10.encode(META) + b"rest"
    assert part10.read_meta(whole) == (META, len(whole) - 4)


def test_a_data_set_cannot_rewrite_the_file_meta_before_it() -> None:
    forged = b"\x02\x00\x17\x00AE\x06\x00FORGED\x02\x00\x18\x00AE\x04\x00ECHO"
    whole = part10.encode(META)
    assert part10.read_meta(whole + forged + b"\x08\x00") == (META, len(whole))


def test_a_group_length_of_another_writer_is_not_believed() -> None:
    meta = replace(META, implementation_class_uid="1.2.3")
    whole = bytearray(part10.encode(meta))
    whole[140:144] = bytes(4)
    assert part10.read_meta(bytes(whole) + b"\x08\x00") == (meta, len(whole))


def test_a_result_carries_no_sender() -> None:
    meta = part10.FileMeta("1.2", "1.3", "1.2.840.10008.1.2", source_ae_title="BROOKBOX")
    ds = pydicom.dcmread(io.BytesIO(part10.encode(meta) + bytes(8)), force=True)
    for tag in (0x00020017, 0x00020018, 0x00020026, 0x00020027, 0x00020028):
        assert tag not in ds.file_meta


@pytest.mark.parametrize("host", ["10.1.2.3", "::1", "ct1.example.org"])
def test_an_address_gives_its_host_back(host: str) -> None:
    assert part10.host_of(part10.address_of(host, 104)) == host


def test_a_file_is_read_without_being_taken_into_memory(tmp_path: Path) -> None:
    ds = ct_slice()
    meta, header, start = part10.read_file(write(ds, tmp_path / "a.dcm"))
    assert header.sop_instance_uid == ds.SOPInstanceUID == meta.sop_instance_uid
    assert start > 132


@pytest.mark.parametrize("junk", [b"", b"%PDF-1.4", b"\x02", bytes(132) + b"DICM", b"DICM" * 50])
def test_what_is_no_dicom_is_refused(junk: bytes) -> None:
    with pytest.raises(InstanceRefused):
        part10.read_file(junk)


def test_a_bare_data_set_is_read(tmp_path: Path) -> None:
    path = write(ct_slice(), tmp_path / "a.dcm")
    _, start = part10.read_meta(path)
    (tmp_path / "bare").write_bytes(path.read_bytes()[start:])
    meta, header, begin = part10.read_file(tmp_path / "bare")
    assert begin == 0
    assert meta.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert header.modality == "CT"


def test_statuses_and_reasons_are_words() -> None:
    assert statuses.store_status(0xA700) == "0xA700 refused: out of resources"
    assert statuses.store_status(0xC123) == "0xC123 error: cannot understand"
    assert statuses.is_success(0xB007)
    assert not statuses.is_success(0xA900)
    assert statuses.is_transient(0xA701)
    assert not statuses.is_transient(0xC000)
    assert statuses.reject_reason(1, 1, 7) == "called AE title not recognised, for good (1,1,7)"
    assert statuses.reject_reason(2, 3, 1) == "temporary congestion, for now (2,3,1)"
