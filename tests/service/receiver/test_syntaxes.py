"""Every transfer syntax goes into the store as it came, byte by byte, and its header is read."""

from __future__ import annotations

import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from tests.kit import require
from tests.kit.dicom import ct_slice
from tests.kit.raw_scu import Cut, RawSCU
from tests.service.conftest import Receiver
from tests.service.receiver.sent import (
    BIG,
    CT,
    IMPLICIT,
    LITTLE,
    Sent,
    assert_kept,
    of_file,
)
from tests.unit.dicom.test_header import encoded

DEFLATED = "1.2.840.10008.1.2.1.99"
# All are in pydicom's package, and no two have the same SOP Instance UID.
OF_PYDICOM = [
    "JPEG2000.dcm", "JPEG-lossy.dcm", "MR_small_RLE.dcm", "image_dfl.dcm",
    "SC_rgb_small_odd_big_endian.dcm", "badVR.dcm", "rtplan.dcm", "examples_ybr_color.dcm",
]  # fmt: skip
CUTS = [
    Cut(),
    Cut(data_set=lambda: 4090),
    Cut(data_set=lambda: 131_072 - 6),
    Cut(data_set=lambda: 501, pdvs=lambda: 3, ends_empty=True),
]


def check(receiver: Receiver, one: Sent, syntax: str, cut: Cut) -> None:
    with RawSCU(receiver.port, {(1, one.sop_class_uid): [syntax]}) as scu:
        assert scu.accepted == {1: syntax}
        assert scu.store(one.data_set, one.sop_class_uid, one.sop_instance_uid, 1, cut) == 0
        scu.release()
    assert_kept(receiver, one)
    row = receiver.instance(one.sop_instance_uid)
    assert row is not None
    assert row.transfer_syntax_uid == syntax


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("size", [16, 400])
def test_what_is_made_in_code_is_kept_in_every_encoding(
    shared: Receiver, syntax: str, size: int
) -> None:
    for cut in CUTS:
        ds = ct_slice(size=size)
        ds.SOPInstanceUID = pydicom.uid.generate_uid()
        check(shared, Sent(encoded(ds, syntax), ds.SOPInstanceUID), syntax, cut)


@pytest.mark.parametrize("name", OF_PYDICOM)
def test_files_of_pydicom_are_kept_as_they_are(shared: Receiver, name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    one, syntax = of_file(path.read_bytes(), ds)
    check(shared, one, syntax, CUTS[1])


def test_a_deflated_data_set_that_expands_much_is_kept_as_it_came(shared: Receiver) -> None:
    ds = ct_slice(size=1024)
    ds.SOPInstanceUID = pydicom.uid.generate_uid()
    ds.PixelData = bytes(2 * 1024 * 1024)
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    data = deflater.compress(encoded(ds)) + deflater.flush()
    assert len(data) < 10_000
    check(shared, Sent(data, ds.SOPInstanceUID), DEFLATED, CUTS[0])


def test_real_compressed_files_are_kept_as_they_are(shared: Receiver) -> None:
    known: set[str] = set()
    for path in sorted((require.real_data() / "compressed").rglob("*.dcm")):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        if ds.SOPInstanceUID in known or not _has_uids(ds):
            continue  # they are one image in many syntaxes
        known.add(ds.SOPInstanceUID)
        one, syntax = of_file(path.read_bytes(), ds)
        check(shared, one, syntax, CUTS[1])
    assert known


def test_the_first_syntax_that_is_proposed_is_the_one_that_is_accepted(shared: Receiver) -> None:
    jpeg = "1.2.840.10008.1.2.4.50"
    with RawSCU(shared.port, {(1, CT): [jpeg, LITTLE], (3, CT): [IMPLICIT, BIG]}) as scu:
        assert scu.accepted == {1: jpeg, 3: IMPLICIT}
        scu.release()


def _has_uids(ds: Dataset) -> bool:
    return all(ds.get(name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"))
