"""Peers of the receiver that break the rules, or read what it says."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association

from appliance.dicom import part10
from tests.kit.dicom import ct_slice
from tests.service.conftest import Receiver


def associate(
    receiver: Receiver,
    called: str = "ECHO",
    calling: str = "CT1",
    contexts: tuple[tuple[str, str], ...] = (("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"),),
    handlers: Any = None,
) -> Association:
    _config.LOG_HANDLER_LEVEL = "none"
    ae = AE(ae_title=calling)
    for abstract, transfer in contexts:
        ae.add_requested_context(UID(abstract), UID(transfer))
    return ae.associate("127.0.0.1", receiver.port, ae_title=called, evt_handlers=handlers or [])


def wire(assoc: Association) -> socket.socket:
    """Give the connection of an association, to break the rules on it."""
    assert assoc.dul.socket is not None
    assert assoc.dul.socket.socket is not None
    return assoc.dul.socket.socket


def rejection(receiver: Receiver, called: str, calling: str = "CT1") -> tuple[int, int, int]:
    """Give what the peer is told when it is refused."""
    told: list[tuple[int, int, int]] = []

    def heard(event: Any) -> None:
        if event.data[0] == 0x03:
            told.append((event.data[7], event.data[8], event.data[9]))

    assoc = associate(receiver, called, calling, handlers=[(evt.EVT_DATA_RECV, heard)])
    if assoc.is_established:
        assoc.release()
        return (0, 0, 0)
    return told[0] if told else (-1, -1, -1)


def raw_request(called: bytes, calling: bytes) -> bytes:
    """Encode an A-ASSOCIATE-RQ that proposes Verification."""

    def item(kind: int, body: bytes) -> bytes:
        return bytes([kind, 0]) + len(body).to_bytes(2, "big") + body

    context = item(0x20, b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.1.1")
                   + item(0x40, b"1.2.840.10008.1.2"))  # fmt: skip
    user = item(0x50, item(0x51, (16384).to_bytes(4, "big")) + item(0x52, b"1.2.3"))
    body = b"\0\1\0\0" + called.ljust(16) + calling.ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return b"\1\0" + len(body).to_bytes(4, "big") + body


def send_raw(receiver: Receiver, ds: Dataset, path: Path, said: Dataset | None = None) -> Dataset:
    """Send a file's bytes as they are; `said` gives the UIDs of the request."""
    start = part10.read_meta(path)[1]
    words = said or ds
    meta = part10.FileMeta(words.SOPClassUID, words.SOPInstanceUID, str(ExplicitVRLittleEndian))
    raw = path.with_suffix(".raw")
    raw.write_bytes(part10.encode(meta) + path.read_bytes()[start:])
    assoc = associate(receiver, contexts=((words.SOPClassUID, ExplicitVRLittleEndian),))
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        answer: Dataset = assoc.send_c_store(raw)
        assert assoc.is_established, "the association must outlive a bad instance"
        return answer
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = False
        assoc.release()


def half_a_c_store(ds: Dataset, path: Path) -> bytes:
    """Encode a C-STORE request and the first half of its data set as PDUs."""
    raw = path.read_bytes()[part10.read_meta(path)[1] :]
    pdus = c_store(ds.SOPClassUID, ds.SOPInstanceUID, raw)
    return b"".join(pdus[: len(pdus) // 2])


def c_store(sop_class_uid: str, sop_instance_uid: str, raw: bytes) -> list[bytes]:
    """Encode a C-STORE request and its data set as PDUs."""
    from io import BytesIO

    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.pdu import P_DATA_TF

    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = UID(sop_class_uid)
    request.AffectedSOPInstanceUID = UID(sop_instance_uid)
    request.Priority = 2
    request.DataSet = BytesIO(raw)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pdus = []
    for primitive in message.encode_msg(1, 2048):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        pdus.append(pdu.encode())
    return pdus


def ct_slice_with_meta() -> Dataset:
    ds = ct_slice()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds
