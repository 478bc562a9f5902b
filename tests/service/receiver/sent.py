"""What is sent over a raw association, and whether it is kept byte by byte."""

from __future__ import annotations

import hashlib
import random
import struct
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from appliance.dicom import part10
from tests.kit.raw_scu import VERIFICATION
from tests.service.conftest import Receiver

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, LITTLE, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
STORAGE, ECHO = 1, 3  # presentation context IDs
BOTH = {(STORAGE, CT): [LITTLE], (ECHO, VERIFICATION): [IMPLICIT]}


@dataclass(frozen=True, slots=True)
class Sent:
    """A data set with its UIDs."""

    data_set: bytes
    sop_instance_uid: str
    sop_class_uid: str = CT

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data_set).hexdigest()


def ct_of(size: int, seed: int = 0) -> Sent:
    """Make a CT image of about so many bytes, in Explicit VR Little Endian."""
    uid = generate_uid()
    texts = [
        (0x00080016, b"UI", CT), (0x00080018, b"UI", uid), (0x00080060, b"CS", "CT"),
        (0x00100010, b"PN", "Sweep^Sent"), (0x00100020, b"LO", "SWEEP-1"),
        (0x0020000D, b"UI", generate_uid()), (0x0020000E, b"UI", generate_uid()),
        (0x00200013, b"IS", str(seed)),
    ]  # fmt: skip
    head = b"".join(_element(tag, vr, text.encode()) for tag, vr, text in texts)
    count = max(size - len(head) - 12, 2) & ~1
    pixels = random.Random(seed).randbytes(min(count, 1 << 16))
    pixels = (pixels * (count // len(pixels) + 1))[:count]
    last = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, count)
    return Sent(head + last + pixels, uid)


def of_file(raw: bytes, ds: Dataset) -> tuple[Sent, str]:
    """Take the data set out of a file, with its transfer syntax."""
    meta, start = part10.read_meta(raw)
    return Sent(raw[start:], ds.SOPInstanceUID, ds.SOPClassUID), meta.transfer_syntax_uid


def digest_kept(receiver: Receiver, sop_instance_uid: str) -> str:
    """Give the SHA-256 of the data set that the node keeps; "" when it keeps none."""
    found = list(receiver.layout.studies.rglob(f"{sop_instance_uid}.dcm"))
    assert len(found) < 2
    if not found:
        return ""
    raw = found[0].read_bytes()
    return hashlib.sha256(raw[part10.read_meta(raw)[1] :]).hexdigest()


def assert_kept(receiver: Receiver, *sent: Sent) -> None:
    """Check that each is kept as it was sent, with its row, and that nothing is left over."""
    for one in sent:
        assert digest_kept(receiver, one.sop_instance_uid) == one.digest
        row = receiver.instance(one.sop_instance_uid)
        assert row is not None, one.sop_instance_uid
    assert receiver.waiting() == []


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
