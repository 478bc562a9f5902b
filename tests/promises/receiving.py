"""What the tests of bad and conflicting data send to a receiver, and ask of it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pynetdicom import _config

from appliance.dicom import part10
from appliance.disk import quarantine
from appliance.disk.quarantine import Entry
from tests.faults.checker import Acknowledged, Evidence, check
from tests.kit.dicom import write
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate

LITTLE = "1.2.840.10008.1.2.1"


def send(receiver: Receiver, file: Path, calling: str = "CT1") -> Dataset:
    """Send a Part 10 file's data set as it is; the C-STORE response."""
    meta = part10.read_meta(file)[0]
    context = (meta.sop_class_uid, meta.transfer_syntax_uid)
    assoc = associate(receiver, calling=calling, contexts=(context,))
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        answer: Dataset = assoc.send_c_store(file)
        assert assoc.is_established, "the association must outlive a bad instance"
        return answer
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = False
        assoc.release()
        receiver.settle()


def data_file(path: Path, data: bytes, ds: Dataset, syntax: str = LITTLE) -> Path:
    """Write these very bytes as a data set, under the UIDs of `ds`."""
    meta = part10.FileMeta(ds.SOPClassUID, ds.SOPInstanceUID, syntax)
    path.write_bytes(part10.encode(meta) + data)
    return path


def bytes_of(ds: Dataset, folder: Path, syntax: str = LITTLE) -> bytes:
    """Encode a data set, whatever it lacks."""
    path = folder / "encoded"
    dcmwrite(
        path, ds, implicit_vr=syntax == "1.2.840.10008.1.2",
        little_endian=syntax != "1.2.840.10008.1.2.2", enforce_file_format=False,
    )  # fmt: skip
    return path.read_bytes()[part10.read_meta(path)[1] :]


def set_rules(receiver: Receiver, **rules: Any) -> None:
    """Change settings of a receiver that runs, and wait until every process has them."""
    told = receiver.text().count("settings read again")
    receiver.settings = {"receiver": rules}
    receiver.write_settings()
    assert receiver.process is not None
    receiver.process.send_signal(signal.SIGHUP)
    everybody = 1 + len(receiver.children())
    wait_for(
        lambda: receiver.text().count("settings read again") >= told + everybody,
        "every process has read the settings again",
    )


def put_aside(receiver: Receiver, sop_instance_uid: str) -> Sequence[Entry]:
    """List what quarantine has of an instance."""
    receiver.settle()
    found = quarantine.entries(receiver.layout)
    return [one for one in found if one.sop_instance_uid == sop_instance_uid]


def violations(receiver: Receiver, *acknowledged: Path) -> list[str]:
    """Check the invariants of a node that only receives."""
    receiver.settle()
    told = [Acknowledged(file, "ECHO") for file in acknowledged]
    return check(Evidence(receiver.layout.root, receiver.db, told, is_quiet=False))


__all__ = ["bytes_of", "data_file", "put_aside", "send", "set_rules", "violations", "write"]
