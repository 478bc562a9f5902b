"""A real receiver, and real peers: DCMTK's storescu and echoscu, pynetdicom as SCU."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
from pynetdicom import _config

from appliance.dicom import part10
from appliance.disk.studies import dataset_digest
from appliance.index import schema
from tests.kit import peers
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import (
    associate,
)

PRIVATE_CLASS = "1.2.826.0.1.3680043.9.9999.1"
PRIVATE_SYNTAX = "1.2.826.0.1.3680043.9.9999.2"


def test_a_study_by_storescu_is_kept_and_told(receiver: Receiver, tmp_path: Path) -> None:
    receiver.start()
    study = ct_study(5)
    files = write_study(study, tmp_path / "sent")
    report = peers.storescu(files, receiver.port, "ECHO")
    assert (report.exit_code, len(report.acknowledged)) == (0, 5)
    assert len(receiver.stored()) == len(receiver.instances()) == 5
    receiver.digested()
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


def test_bi_01_one_study_to_two_ae_titles_is_one_copy_and_two_arrivals(
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


def test_bi_03_eight_associations_send_one_uid_at_once(receiver: Receiver, tmp_path: Path) -> None:
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


def test_bi_14_private_classes_and_transfer_syntaxes_are_kept(
    receiver: Receiver, tmp_path: Path
) -> None:
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
