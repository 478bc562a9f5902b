"""A real receiver, and real peers: DCMTK's storescu and echoscu, pynetdicom as SCU."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association

from appliance.dicom import part10
from appliance.disk import quarantine, space
from appliance.disk.studies import dataset_digest
from appliance.index import lanes, schema
from appliance.index.states import Ending
from tests.kit import peers, require
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PRIVATE_CLASS = "1.2.826.0.1.3680043.9.9999.1"
PRIVATE_SYNTAX = "1.2.826.0.1.3680043.9.9999.2"


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


# -- it receives ---------------------------------------------------------------------------------


def test_a_study_by_storescu_is_kept_and_told(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    study = ct_study(5)
    files = write_study(study, tmp_path / "sent")
    report = peers.storescu(files, receiver.port, "ECHO")
    assert (report.exit_code, len(report.acknowledged)) == (0, 5)
    assert len(receiver.stored()) == len(receiver.instances()) == 5
    for ds, file in zip(study, files, strict=True):
        row = receiver.instance(ds.SOPInstanceUID)
        assert row is not None
        assert row.dataset_sha256 == dataset_digest(receiver.layout.root / row.path)
        assert row.dataset_sha256 == dataset_digest(file)
    wait_for(lambda: receiver.associations()[0].closed_at, "the association is closed")
    (row,) = receiver.associations()
    assert (row.called_ae_title, row.calling_ae_title) == ("ECHO", "CT1")
    assert (row.ending, row.instances, row.failures) == ("released", 5, 0)
    assert row.address == "127.0.0.1"
    (arrival,) = receiver.open_arrivals()
    assert (arrival.open_associations, arrival.endings) == (0, frozenset({"released"}))
    (event,) = wait_for(lambda: receiver.events("association closed"), "the event is there")
    assert "5 instances" in event.sentence
    assert event.study_uid == study[0].StudyInstanceUID
    meta = pydicom.dcmread(receiver.stored()[0]).file_meta
    assert meta.SourceApplicationEntityTitle == "BROOKBOX"
    assert meta.SendingApplicationEntityTitle == "CT1"
    assert meta.ReceivingApplicationEntityTitle == "ECHO"
    assert meta.ReceivingPresentationAddress == f"dicom:127.0.0.1:{receiver.port}"
    assert re.fullmatch(r"dicom:127\.0\.0\.1:\d+", meta.SendingPresentationAddress)
    assert receiver.waiting() == []
    assert receiver.stop() == 0
    assert "Seeded" not in receiver.text()


def test_echo_is_answered_for_the_node_and_for_a_stream_and_leaves_no_row(
    receiver: Receiver,
) -> None:
    receiver.start()
    assert peers.echoscu(receiver.port, "BROOKBOX")
    assert peers.echoscu(receiver.port, "ECHO", "anyone")
    assert not peers.echoscu(receiver.port, "NOBODY")
    assert receiver.associations() == []


def test_the_node_stores_for_its_own_ae_title_without_an_arrival(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    report = peers.storescu(write_study(ct_study(1), tmp_path), receiver.port, "BROOKBOX")
    assert len(report.acknowledged) == 1
    assert len(receiver.rows(schema.receptions)) == 1
    assert receiver.open_arrivals() == []


def test_one_study_to_two_ae_titles_is_one_copy_and_two_arrivals(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.add_stream("ProcPics", level="series")
    receiver.start()
    files = write_study(ct_study(3), tmp_path)
    for called in ("ECHO", "ProcPics"):
        assert len(peers.storescu(files, receiver.port, called).acknowledged) == 3
    assert len(receiver.stored()) == 3
    found = {one.called_ae_title: bool(one.series_uid) for one in receiver.open_arrivals()}
    assert found == {"ECHO": False, "ProcPics": True}


def test_eight_associations_send_one_uid_at_once(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    ds = ct_slice()
    path = write(ds, tmp_path / "one.dcm")
    with ThreadPoolExecutor(8) as pool:
        reports = list(
            pool.map(lambda n: peers.storescu([path], receiver.port, "ECHO", f"CT{n}"), range(8))
        )
    refused = [report.text for report in reports if len(report.acknowledged) != 1]
    assert refused == []
    assert len(receiver.instances()) == 1
    assert len(receiver.rows(schema.receptions)) == 8
    assert len(receiver.stored()) == 1


def test_private_classes_and_transfer_syntaxes_are_kept(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    ds = ct_slice()
    ds.SOPClassUID = PRIVATE_CLASS
    path = write(ds, tmp_path / "private.dcm")
    start = part10.read_meta(path)[1]
    meta = part10.FileMeta(PRIVATE_CLASS, ds.SOPInstanceUID, PRIVATE_SYNTAX)
    private = tmp_path / "private syntax.dcm"
    private.write_bytes(part10.encode(meta) + path.read_bytes()[start:])
    assoc = associate(receiver, contexts=((PRIVATE_CLASS, PRIVATE_SYNTAX),))
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        assert assoc.send_c_store(private).Status == 0x0000
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = False
        assoc.release()
    row = receiver.instance(ds.SOPInstanceUID)
    assert row is not None
    assert (row.sop_class_uid, row.transfer_syntax_uid) == (PRIVATE_CLASS, PRIVATE_SYNTAX)


def test_what_is_no_storage_is_not_negotiated(receiver: Receiver) -> None:
    receiver.start()
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    ct = "1.2.840.10008.5.1.4.1.1.2"
    assoc = associate(receiver, contexts=((find, "1.2.840.10008.1.2"), (ct, "1.2.840.10008.1.2")))
    accepted = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
    assoc.release()
    assert accepted == {ct}


# -- statuses ------------------------------------------------------------------------------------


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


def test_a_bad_instance_is_refused_in_words_and_the_association_goes_on(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    ds = ct_slice()
    path = write(ds, tmp_path / "a.dcm")
    other = Dataset()
    other.SOPClassUID, other.SOPInstanceUID = ds.SOPClassUID, "1.2.3.4"
    answer = send_raw(receiver, ds, path, other)
    assert answer.Status == 0xA900
    assert answer.ErrorComment.startswith("SOP Instance UID (0008,0018) of the data set")
    assert len(answer.ErrorComment) <= 64
    del ds.StudyInstanceUID
    assert send_raw(receiver, ds, write(ds, tmp_path / "b.dcm")).Status == 0xA900
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(path.read_bytes()[:-10])
    good = ct_slice()
    good.SOPInstanceUID = ds.SOPInstanceUID
    answer = send_raw(receiver, good, cut)
    assert answer.Status == 0xC000
    found = quarantine.entries(receiver.layout)
    assert sorted(one.status for one in found) == [0xA900, 0xA900, 0xC000]
    assert all(one.calling_ae_title == "CT1" for one in found)
    assert len(receiver.events("instance refused")) == 3
    wait_for(lambda: all(row.closed_at for row in receiver.associations()), "all are closed")
    assert [(row.instances, row.failures) for row in receiver.associations()] == [(0, 1)] * 3
    assert receiver.stored() == []


@pytest.mark.filterwarnings("ignore:.*VR:UserWarning")
@pytest.mark.parametrize(
    "uid", ["../../etc/passwd", "1." + "2" * 70, "%00", "1.2'; DROP TABLE instances"]
)
def test_a_uid_that_is_none_is_refused_and_the_association_stays(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    for kind in ("UI", "AE"):
        monkeypatch.setitem(_config.VALIDATORS, kind, lambda value: (True, ""))
    receiver.start()
    ds = ct_slice_with_meta()
    good = write(ds, tmp_path / "good.dcm")
    raw = good.read_bytes()[part10.read_meta(good)[1] :]
    old = ds.SOPInstanceUID.encode()
    old += b"\0" * (len(old) % 2)
    new = uid.encode() + b"\0" * (len(uid) % 2)
    bad = raw.replace(
        b"\x08\0\x18\0UI" + len(old).to_bytes(2, "little") + old,
        b"\x08\0\x18\0UI" + len(new).to_bytes(2, "little") + new,
    )
    assert bad != raw
    answers: list[int] = []
    assoc = associate(
        receiver,
        handlers=[(evt.EVT_DIMSE_RECV, lambda e: answers.append(e.message.command_set.Status))],
    )
    wire(assoc).sendall(b"".join(c_store(ds.SOPClassUID, uid, bad)))
    wait_for(lambda: answers, "an answer")
    assert answers == [0xC000]
    # pynetdicom must have thrown away an answer that it did not ask for.
    wait_for(assoc.dimse.msg_queue.empty, "the answer is gone")
    assert assoc.send_c_store(pydicom.dcmread(good)).Status == 0x0000
    assoc.release()
    (entry,) = quarantine.entries(receiver.layout)
    assert entry.sop_instance_uid == uid
    assert len(receiver.stored()) == 1


def test_an_instance_over_the_limit_is_out_of_resources(receiver: Receiver, tmp_path: Path) -> None:
    receiver.settings = {"receiver": {"max_instance_mb": 1}}
    receiver.write_settings()
    receiver.start()
    ds = ct_slice(size=800)
    report = peers.storescu([write(ds, tmp_path / "big.dcm")], receiver.port, "ECHO")
    assert "OutOfResources" in report.text
    ds = ct_slice(size=2048)  # 8 MB: it is cut off before it is whole
    report = peers.storescu([write(ds, tmp_path / "bigger.dcm")], receiver.port, "ECHO")
    assert report.acknowledged == []
    assert receiver.stored() == []
    wait_for(lambda: all(row.closed_at for row in receiver.associations()), "all are closed")


def test_a_full_disk_is_out_of_resources_and_what_was_kept_stays(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.prelude = (
        "import os\nreal, count = os.write, [0]\n"
        "from appliance.disk import incoming\n"
        "def full(fd, view):\n"
        "    import pathlib\n"
        "    if pathlib.Path('full').exists(): raise OSError(28, 'No space left on device')\n"
        "    os.write(fd, view); return len(view)\n"
        "def write_all(fd, view): full(fd, view)\n"
        "incoming._write_all = write_all\n"
    )
    receiver.start()
    files = write_study(ct_study(3), tmp_path)
    assert len(peers.storescu(files[:1], receiver.port, "ECHO").acknowledged) == 1
    (receiver.home / "full").touch()
    report = peers.storescu(files[1:], receiver.port, "ECHO", options=("-nh",))
    assert report.acknowledged == []
    assert "OutOfResources" in report.text
    assert receiver.waiting() == []
    (receiver.home / "full").unlink()
    assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 3


def test_a_volume_that_runs_full_keeps_what_was_acknowledged_and_recovers(
    tmp_path: Path,
) -> None:
    require.root()
    data = tmp_path / "node" / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "none", data], check=True)
    receiver = Receiver(tmp_path / "node", {"receiver": {"reserve_gb": 0}})
    try:
        receiver.start()
        files = write_study(ct_study(40, size=512), tmp_path / "sent")
        report = peers.storescu(files, receiver.port, "ECHO")
        kept = report.acknowledged
        assert 5 < len(kept) < 25
        assert len(report.answers) == 40, "the association stays"
        assert "OutOfResources" in report.text
        assert [path for path in receiver.waiting() if path.parent.name != "left"] == []
        for path in kept:
            row = receiver.instance(pydicom.dcmread(path).SOPInstanceUID)
            assert row is not None
            assert dataset_digest(receiver.layout.root / row.path) == dataset_digest(path)
        assert len(receiver.instances()) == len(kept)
        subprocess.run(["mount", "-o", "remount,size=80m", data], check=True)
        assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 40
        assert receiver.stop() == 0
    finally:
        if receiver.is_alive():
            receiver.kill()
        receiver.db.close()
        subprocess.run(["umount", data], check=True)


def test_a_failed_sync_refuses_all_that_follows_until_the_restart(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.prelude = (
        "import os\nreal = os.fsync\n"
        "def fsync(fd):\n"
        "    import pathlib\n"
        "    if pathlib.Path('broken').exists(): raise OSError(5, 'Input/output error')\n"
        "    real(fd)\n"
        "os.fsync = fsync\n"
    )
    receiver.start()
    files = write_study(ct_study(2), tmp_path)
    assoc = associate(receiver)
    (receiver.home / "broken").touch()
    assert assoc.send_c_store(pydicom.dcmread(files[0])).Status == 0xA700
    (receiver.home / "broken").unlink()
    assert assoc.send_c_store(pydicom.dcmread(files[1])).Status == 0xA700
    assoc.release()
    assert rejection(receiver, "ECHO") == (2, 3, 1)
    assert "synced" in space.degraded(receiver.layout)
    assert peers.echoscu(receiver.port, "BROOKBOX")
    receiver.stop()
    receiver.start()
    assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 2


def test_an_error_of_ours_is_a_processing_failure_logged_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.prelude = (
        "from appliance.intake.filing import Filing\n"
        "def broken(self, arrived): raise RuntimeError('a mistake of ours')\n"
        "Filing.file = broken\n"
    )
    receiver.start()
    report = peers.storescu(write_study(ct_study(1), tmp_path), receiver.port, "ECHO")
    assert report.acknowledged == []
    assert "0x110" in report.text
    assert receiver.text().count("instance not kept") == 1
    assert "a mistake of ours" in receiver.text()
    receiver.log.write_text("")  # it was looked at


# -- admission as the peer sees it ---------------------------------------------------------------


def test_every_reason_as_the_peer_sees_it(receiver: Receiver) -> None:
    receiver.settings = {
        "receiver": {"allow_calling": ["CT1", "CT2"], "max_associations": 2},
        "jobs": {"max_waiting": 3},
    }
    receiver.write_settings()
    receiver.add_stream("ProcPics")
    receiver.add_stream("OFF", enabled=0)
    receiver.add_stream("BROKEN", nonsense=1)
    receiver.add_stream("SWITCHED")
    receiver.add_stream("FULL", max_waiting=1)
    lanes.switch_off(receiver.db, "SWITCHED", "somebody", NOW)
    receiver.start()
    assert rejection(receiver, "ProcPics") == (0, 0, 0)
    assert rejection(receiver, " ProcPics ") == (0, 0, 0)
    for called in ("NOBODY", "PROCPICS", "OFF", "BROKEN", "SWITCHED"):
        assert rejection(receiver, called) == (1, 1, 7), called
    assert rejection(receiver, "ECHO", "STRANGER") == (1, 1, 3)
    asked = {event.sentence for event in receiver.events("association refused")}
    assert any("Did you mean ProcPics?" in sentence for sentence in asked)
    assert any("nonsense" in sentence for sentence in asked)
    with receiver.db.write() as connection:
        connection.execute(
            schema.arrivals.insert().values(
                called_ae_title="FULL", study_uid="1.2", series_uid="", state="open",
                opened_at=NOW, last_instance_at=NOW,
            )
        )  # fmt: skip
    assert rejection(receiver, "FULL") == (2, 3, 1)
    held = [associate(receiver, calling=calling) for calling in ("CT1", "CT2")]
    assert rejection(receiver, "ECHO") == (2, 3, 2)
    assert peers.echoscu(receiver.port, "BROOKBOX")
    for assoc in held:
        assoc.release()
    wait_for(lambda: rejection(receiver, "ECHO") == (0, 0, 0), "there is room again")


def test_a_malformed_ae_title_is_rejected_with_its_reason(receiver: Receiver) -> None:
    receiver.start()
    for calling in (b"A\\B", b"A\x07B", b"C\xc4T", b" " * 16, bytes(16)):
        with socket.create_connection(("127.0.0.1", receiver.port), 10) as peer:
            peer.sendall(raw_request(b"ECHO", calling))
            assert peer.recv(10)[:1] + peer.recv(0) == b"\x03", calling
    with socket.create_connection(("127.0.0.1", receiver.port), 10) as peer:
        peer.sendall(raw_request(b"ECHO", b"A\\B"))
        assert peer.recv(10)[7:] == bytes([1, 1, 3])
    for called in (b" " * 16, bytes(16), b"EC\xc4O"):
        with socket.create_connection(("127.0.0.1", receiver.port), 10) as peer:
            peer.sendall(raw_request(called, b"CT1"))
            assert peer.recv(10)[7:] == bytes([1, 1, 7]), called
    assert peers.echoscu(receiver.port, "ECHO")


def test_an_address_that_may_not_connect_is_rejected(receiver: Receiver) -> None:
    receiver.settings = {"receiver": {"allow_addresses": ["10.0.0.0/8"]}}
    receiver.write_settings()
    receiver.start(ready=False)
    wait_for(lambda: "receiving" in receiver.text(), "it listens")
    assert rejection(receiver, "ECHO") == (1, 1, 3)
    receiver.settings = {"receiver": {"allow_addresses": ["127.0.0.0/8"]}}
    receiver.write_settings()
    assert receiver.process is not None
    receiver.process.send_signal(signal.SIGHUP)
    wait_for(lambda: rejection(receiver, "ECHO") == (0, 0, 0), "the children were told too")


def test_no_space_refuses_storage_and_not_echo(receiver: Receiver) -> None:
    receiver.settings = {"receiver": {"reserve_gb": 1e9}}
    receiver.write_settings()
    receiver.start()
    assert rejection(receiver, "ECHO") == (2, 3, 1)
    assert peers.echoscu(receiver.port, "ECHO")
    assert "reserve" in receiver.events("association refused")[0].sentence


def test_an_open_association_does_not_fill_the_reserve_either(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    study = [pydicom.dcmread(path) for path in write_study(ct_study(2), tmp_path)]
    assoc = associate(receiver)
    assert assoc.send_c_store(study[0]).Status == 0x0000
    receiver.settings = {"receiver": {"reserve_gb": 1e9}}
    receiver.write_settings()
    assert receiver.process is not None
    receiver.process.send_signal(signal.SIGHUP)
    wait_for(lambda: rejection(receiver, "ECHO") == (2, 3, 1), "the settings were read")
    wait_for(lambda: assoc.send_c_store(study[1]).Status == 0xA700, "it is refused")
    assoc.release()


def test_a_peer_that_hammers_does_not_fill_the_index(receiver: Receiver) -> None:
    receiver.settings = {"receiver": {"processes": 1}}
    receiver.write_settings()
    receiver.start()
    for _ in range(5):
        assert rejection(receiver, "NOBODY") == (1, 1, 7)
    assert len(receiver.events("association refused")) == 1
    assert receiver.text().count("association refused") == 1


def test_an_index_that_is_away_refuses_for_now_and_answers_echo(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.settings = {"index": {"busy_seconds": 0.5}}
    receiver.write_settings()
    receiver.start()
    files = write_study(ct_study(2), tmp_path)
    assoc = associate(receiver)
    with receiver.db.write():  # somebody holds the index's lock
        assert assoc.send_c_store(pydicom.dcmread(files[0])).Status == 0xA700
        assert rejection(receiver, "ECHO") == (2, 3, 1)
        assert peers.echoscu(receiver.port, "BROOKBOX")
    assert assoc.send_c_store(pydicom.dcmread(files[0])).Status == 0x0000
    assoc.release()
    wait_for(lambda: receiver.associations()[0].closed_at, "it is closed")
    assert len(receiver.stored()) == 1


# -- life and death ------------------------------------------------------------------------------


def test_a_child_killed_in_mid_data_set_loses_only_its_own_associations(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    study = ct_study(2)
    files = write_study(study, tmp_path)
    held = [associate(receiver, calling=f"CT{n}") for n in range(6)]
    for assoc in held[1:]:
        assert assoc.send_c_store(pydicom.dcmread(files[0])).Status == 0
    rows = {row.calling_ae_title: row for row in receiver.associations()}
    # Half a C-STORE on the first one, then its process is killed.
    doomed = held[0]
    message = half_a_c_store(study[1], files[1])
    wire(doomed).sendall(message)
    pid = int(rows["CT0"].process.split("/")[1])
    before = {child.pid for child in receiver.children()}
    assert pid in before
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len({c.pid for c in receiver.children()} - before) == 1, "a new child")

    def ended() -> bool:
        return all(
            row.ending == Ending.ABORTED
            for row in receiver.associations()
            if row.process == rows["CT0"].process
        )

    wait_for(ended, "the dead child's associations are closed as aborted")
    for n, assoc in enumerate(held):
        if rows[f"CT{n}"].process != rows["CT0"].process:
            assert assoc.send_c_store(pydicom.dcmread(files[0])).Status == 0
            assoc.release()
        else:
            assoc.abort(block=False)
    assert receiver.instance(study[1].SOPInstanceUID) is None
    assert receiver.waiting() == []
    wait_for(
        lambda: len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 2, "it receives"
    )


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


def test_a_receiver_killed_while_it_receives_keeps_what_it_acknowledged(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    study = ct_study(60, size=200)
    files = write_study(study, tmp_path / "sent")
    command = peers.storescu_command(files, receiver.port, "ECHO", "CT1")
    sender = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=peers.environment())  # fmt: skip
    wait_for(lambda: len(receiver.instances()) >= 10, "some arrived")
    receiver.kill()
    out, _ = sender.communicate(timeout=60)
    report = peers.report(sender.returncode, out)
    assert 10 <= len(report.acknowledged) < 60
    receiver.start()
    for path in report.acknowledged:
        row = receiver.instance(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        assert row is not None
        assert dataset_digest(receiver.layout.root / row.path) == dataset_digest(path)
    assert receiver.waiting() == []
    (row,) = receiver.associations()
    assert row.ending == Ending.ABORTED
    assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 60
    assert len(receiver.stored()) == len(receiver.instances()) == 60


def test_children_die_with_a_killed_parent_and_the_next_start_has_the_port(
    receiver: Receiver,
) -> None:
    receiver.start()
    children = receiver.children()
    assert receiver.process is not None
    receiver.process.kill()
    receiver.process.wait()
    receiver.start()
    wait_for(lambda: not any(child.is_running() for child in children), "the old ones are gone")


def test_an_aborted_and_a_lost_association_are_told_apart(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    path = write_study(ct_study(1), tmp_path)[0]
    for calling, ending in (("ABORTS", Ending.ABORTED), ("LOST", Ending.LOST)):
        assoc = associate(receiver, calling=calling)
        assert assoc.send_c_store(pydicom.dcmread(path)).Status == 0
        if ending is Ending.ABORTED:
            assoc.abort(block=False)
        else:
            wire(assoc).shutdown(socket.SHUT_RDWR)

        def ended(calling: str = calling) -> str:
            rows = [row for row in receiver.associations() if row.calling_ae_title == calling]
            return rows[0].ending or ""

        assert wait_for(ended, f"{calling} is closed") == ending


def test_bytes_of_a_long_instance_keep_the_association_awake(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    ds = ct_slice(size=256)
    message = half_a_c_store(ds, write(ds, tmp_path / "a.dcm"))
    assoc = associate(receiver)
    first = receiver.associations()[0].last_activity_at
    stop = threading.Event()

    def trickle() -> None:
        for start in range(0, len(message), 4096):
            wire(assoc).sendall(message[start : start + 4096])
            if stop.wait(0.5):
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        wait_for(lambda: receiver.associations()[0].last_activity_at > first, "it is beaten", 15)
    finally:
        stop.set()
        thread.join()
        assoc.abort(block=False)


def test_sigterm_lets_an_association_finish_and_accepts_no_more(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    files = write_study(ct_study(2), tmp_path)
    assoc = associate(receiver)
    assert assoc.send_c_store(pydicom.dcmread(files[0])).Status == 0
    process = receiver.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: not is_open(receiver.port), "nobody is accepted any more")
    assert assoc.send_c_store(pydicom.dcmread(files[1])).Status == 0
    assoc.release()
    assert process.wait(10) == 0
    assert [row.ending for row in receiver.associations()] == [Ending.RELEASED]
    assert list(receiver.layout.incoming.iterdir()) == []


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_sigterm_does_not_wait_for_a_peer_that_sends_nothing(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    assoc = associate(receiver)
    assert assoc.send_c_store(ct_slice_with_meta()).Status == 0
    started = time.monotonic()
    assert receiver.stop() == 0
    assert time.monotonic() - started < 15
    assert [row.ending for row in receiver.associations()] == [Ending.ABORTED]
    assoc.abort(block=False)


def ct_slice_with_meta() -> Dataset:
    ds = ct_slice()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def test_a_taken_port_is_named_with_what_to_do(receiver: Receiver) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", receiver.port))
        other.listen()
        receiver.start(ready=False)
        assert receiver.process is not None
        assert receiver.process.wait(30) == 1
    assert f"127.0.0.1:{receiver.port}" in receiver.text()
    assert "try: " in receiver.text()


def test_a_stream_that_is_dropped_in_is_accepted_without_a_restart(receiver: Receiver) -> None:
    receiver.start()
    assert rejection(receiver, "LATER") == (1, 1, 7)
    receiver.add_stream("LATER")
    wait_for(lambda: rejection(receiver, "LATER") == (0, 0, 0), "it is accepted", 10)


def test_a_silent_connection_blocks_nobody(receiver: Receiver) -> None:
    receiver.start()
    idle = [socket.create_connection(("127.0.0.1", receiver.port), 5) for _ in range(15)]
    for one in idle:
        one.sendall(b"\1\0\0")
    started = time.monotonic()
    assert peers.echoscu(receiver.port, "ECHO")
    assert time.monotonic() - started < 5
    for one in idle:
        one.close()
