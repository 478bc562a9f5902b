"""File Meta as it is read while sending says what `part10.read_meta` says."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.dicom import part10
from appliance.dicom.part10 import FileMeta
from appliance.errors import CannotUnderstand
from appliance.router.data_set import start_of

FILES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
OURS = part10.encode(
    FileMeta(
        "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1", "BROOKBOX", "CT1", "ECHO",
        "dicom:127.0.0.1:11113", "dicom:127.0.0.1:5", "dicom:127.0.0.1:11113",
    )
)  # fmt: skip
DATA_SET = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"


def read(data: bytes) -> tuple[str, int] | None:
    with contextlib.suppress(CannotUnderstand):
        meta, start = part10.read_meta(data)
        return meta.transfer_syntax_uid, start
    return None


def quickly(data: bytes) -> tuple[str, int] | None:
    with contextlib.suppress(CannotUnderstand):
        return start_of(memoryview(data))
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_of_every_file(path: Path) -> None:
    data = path.read_bytes()
    assert quickly(data) == read(data)


def test_of_our_own_files() -> None:
    assert quickly(OURS + DATA_SET) == ("1.2.840.10008.1.2.1", len(OURS))
    # A data set of a sender may begin with elements of group 0002, too.
    strange = b"\x02\x00\x10\x00UI\x04\x001.2\x00" + DATA_SET
    assert quickly(OURS + strange) == read(OURS + strange)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(128, len(OURS) + len(DATA_SET) - 1),
    st.binary(min_size=1, max_size=4),
    st.integers(0, 40),
)
@example(140, b"\xff\xff\xff\xff", 0)
@example(132, b"\x00", 0)
def test_of_files_that_are_damaged(at: int, put: bytes, cut: int) -> None:
    data = OURS + DATA_SET
    damaged = data[:at] + put + data[at + len(put) :]
    damaged = damaged[: len(damaged) - cut]
    assert quickly(damaged) == read(damaged)
