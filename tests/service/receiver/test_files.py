"""Real files, in their own transfer syntax: the node keeps the very bytes that were sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom.data
import pytest
from pydicom.uid import UID
from pynetdicom import AE, _config

from appliance.dicom import part10
from appliance.dicom.canonical import content_digest
from appliance.dicom.header import opened
from appliance.disk import quarantine
from appliance.disk.studies import dataset_digest
from appliance.errors import InstanceRefused
from tests.kit import peers
from tests.service.conftest import Receiver

# What makes storescu propose a transfer syntax; it sends a file as it is when it can.
OPTIONS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


@dataclass(frozen=True)
class Instance:
    """One file, with the SOP class of its data set; File Meta of old files says others."""

    path: Path
    sop_class_uid: str


def corpus(folder: Path) -> dict[str, list[Instance]]:
    """Map transfer syntaxes to the Part 10 files below a folder that are instances."""
    found: dict[str, list[Instance]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.open("rb").read(132)[128:] != b"DICM":
            continue
        try:
            meta, header, _ = part10.read_file(path)
        except InstanceRefused:
            continue
        found[meta.transfer_syntax_uid].append(Instance(path, header.sop_class_uid))
    return found


def kept_digests(receiver: Receiver) -> set[str]:
    """Give the digest of every data set that the node has, the conflicting ones too.

    The corpora hold the same instance in several transfer syntaxes: the first is in
    the store; one that is compressed otherwise is in quarantine.
    """
    rows = {row.dataset_sha256: row.path for row in receiver.digested()}
    for digest, path in rows.items():
        assert dataset_digest(receiver.layout.root / path) == digest
    aside = [
        dataset_digest(quarantine.file_of(receiver.layout, one.id))
        for one in quarantine.entries(receiver.layout)
    ]
    return {*rows, *aside}


def contents(paths: Iterable[Path]) -> dict[str, str]:
    """Map the digest of each file's data set to the digest of what it says."""
    found = {}
    for path in paths:
        meta, start = part10.read_meta(path)
        with opened(path) as view, view[start:] as data_set:
            found[dataset_digest(path)] = content_digest(data_set, meta.transfer_syntax_uid)
    return found


def check_kept(receiver: Receiver, sent: dict[str, str]) -> None:
    """Check that the node has every data set, but one that says what another one said before.

    `sent` maps the digests of data sets to those of their contents.
    """
    kept = kept_digests(receiver)
    assert kept <= set(sent), "the node has what nobody sent"
    said = {sent[digest] for digest in kept}
    assert {digest for digest, content in sent.items() if content not in said} == set()
    written_twice = len(sent) - len(set(sent.values()))
    assert len(sent) - len(kept) <= written_twice


def send_all_raw(
    receiver: Receiver, files: dict[str, list[Instance]], folder: Path
) -> dict[str, str]:
    """Send every file's data set untouched; what was acknowledged, as `contents` has it."""
    sent: dict[str, str] = {}
    for syntax, instances in files.items():
        ae = AE(ae_title="RAW")
        for sop_class in {one.sop_class_uid for one in instances}:
            ae.add_requested_context(UID(sop_class), UID(syntax))
        assoc = ae.associate("127.0.0.1", receiver.port, ae_title="ECHO")
        for one in instances:
            assert assoc.send_c_store(under_own_uids(one, folder)).Status == 0x0000, one.path.name
            sent |= contents([one.path])
        assoc.release()
    return sent


def under_own_uids(one: Instance, folder: Path) -> Path:
    """Write the data set behind File Meta with its own UIDs, which pynetdicom sends."""
    _, header, start = part10.read_file(one.path)
    meta = part10.FileMeta(
        header.sop_class_uid, header.sop_instance_uid, header.transfer_syntax_uid
    )
    copy = folder / "sent.dcm"
    copy.write_bytes(part10.encode(meta) + one.path.read_bytes()[start:])
    return copy


def check_raw(
    receiver: Receiver, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    monkeypatch.setattr(_config, "LOG_HANDLER_LEVEL", "none")
    files = corpus(folder)
    receiver.start()
    sent = send_all_raw(receiver, files, tmp_path)
    assert len(sent) > 10
    check_kept(receiver, sent)
    assert receiver.waiting() == []


def check_storescu(receiver: Receiver, folder: Path, pacs_folder: Path) -> None:
    """Send by storescu to the node and to DCMTK's bit-preserving storescp, and compare."""
    receiver.start()
    pacs = peers.Pacs(pacs_folder).start("+uf", "+xa")
    acknowledged = [0, 0]
    try:
        for syntax, instances in corpus(folder).items():
            paths = [one.path for one in instances]
            if option := OPTIONS.get(syntax):
                for number, port in enumerate((receiver.port, pacs.port)):
                    words = ("-nh", "-R", option)
                    report = peers.storescu(paths, port, "ECHO", options=words)
                    acknowledged[number] += len(report.acknowledged)
        received = contents(pacs.files())
    finally:
        pacs.stop()
    assert acknowledged[0] == acknowledged[1] > 10
    check_kept(receiver, received)


def pydicoms_own() -> Path:
    return Path(str(pydicom.data.get_testdata_file("CT_small.dcm"))).parents[1]


def test_every_file_of_pydicom_is_kept_bit_by_bit(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_raw(receiver, pydicoms_own(), tmp_path, monkeypatch)


def test_every_file_of_pydicom_by_storescu_is_what_dcmtk_receives(
    receiver: Receiver, tmp_path: Path
) -> None:
    check_storescu(receiver, pydicoms_own(), tmp_path / "pacs")


def test_every_real_file_is_kept_bit_by_bit(
    receiver: Receiver, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_raw(receiver, real_data, tmp_path, monkeypatch)


def test_every_real_file_by_storescu_is_what_dcmtk_receives(
    receiver: Receiver, real_data: Path, tmp_path: Path
) -> None:
    check_storescu(receiver, real_data, tmp_path / "pacs")
