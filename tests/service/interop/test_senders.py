"""Each sender that people have reaches the node: what it sent is kept, with its rows.

DCMTK, pynetdicom, Orthanc, dcmjs-dimse and our own, as shipped: with Nagle's algorithm
where they leave it on, in one association and in several, compressed and not.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import AE

from appliance.disk.studies import dataset_digest
from tests.kit import dicom, orthanc, peers, require
from tests.kit.certificates import Authority
from tests.kit.scu import awake
from tests.kit.waiting import free_port, is_listening, wait_for
from tests.service.conftest import Receiver
from tests.service.interop import dcmjs_dimse


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, tls_port: int
) -> Iterator[Receiver]:
    """A receiver with a TLS port, for all tests here."""
    own = authority.sign("node")
    secure = {
        "tls_port": tls_port,
        "tls_certificate_file": str(own.certificate),
        "tls_key_file": str(own.key),
        "tls_ca_file": str(authority.own.certificate),
    }
    one = Receiver(tmp_path_factory.mktemp("interop") / "node", {"receiver": secure}).start()
    wait_for(lambda: is_listening(tls_port), "the TLS port listens")
    try:
        yield one
        assert one.stop() == 0
    finally:
        one.db.close()
        if one.is_alive():
            one.kill()
    assert "Traceback" not in one.text(), one.text()[-3000:]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return dicom.write_study(dicom.ct_study(4, size=256), tmp_path / "sent")


def uids(files: Sequence[Path]) -> list[str]:
    return [str(pydicom.dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in files]


def kept(node: Receiver, file: Path) -> Path:
    """Give the file that the node keeps of an instance."""
    [uid] = uids([file])
    row = wait_for(lambda: node.instance(uid), "the instance has its row")
    return node.layout.root / str(row.path)


def assert_kept_byte_for_byte(node: Receiver, files: Sequence[Path]) -> None:
    for file in files:
        assert dataset_digest(kept(node, file)) == dataset_digest(file)


def assert_kept_as_image(node: Receiver, files: Sequence[Path]) -> None:
    """Of a sender that writes data sets anew: patient, study and pixels are what was sent."""
    for file in files:
        sent, found = pydicom.dcmread(file), pydicom.dcmread(kept(node, file))
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "SOPClassUID"):
            assert found[keyword].value == sent[keyword].value
        assert np.array_equal(pixel_array(found), pixel_array(sent))


def as_shipped(command: Sequence[str]) -> peers.SendReport:
    """Run a storescu that leaves Nagle's algorithm on."""
    shipped = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=shipped)
    return peers.report(done.returncode, done.stdout + done.stderr)


@pytest.mark.parametrize(
    "options",
    [(), ("-pdu", "4096"), ("--max-send-pdu", "4096"), ("-pdu", "131072"), ("-xi",), ("+C",)],
    ids=" ".join,
)
def test_storescu_as_shipped(node: Receiver, files: list[Path], options: tuple[str, ...]) -> None:
    words = peers.storescu_command(files, node.port, "ECHO", "CT1", options)
    assert len(as_shipped(words).acknowledged) == len(files)
    if options == ("-xi",):
        assert_kept_as_image(node, files)
    else:
        assert_kept_byte_for_byte(node, files)


def test_four_storescu_at_once(node: Receiver, tmp_path: Path) -> None:
    studies = [dicom.write_study(dicom.ct_study(5, size=128), tmp_path / str(n)) for n in range(4)]
    commands = [peers.storescu_command(one, node.port, "ECHO", "CT1") for one in studies]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(as_shipped, commands))
    assert [len(one.acknowledged) for one in reports] == [5] * 4
    for study in studies:
        assert_kept_byte_for_byte(node, study)


@pytest.mark.parametrize(("option", "syntax"), [("-xv", JPEG2000Lossless), ("-xr", RLELossless)])
def test_storescu_with_compressed_images(
    node: Receiver, tmp_path: Path, option: str, syntax: str
) -> None:
    ds = dicom.ct_slice(size=128)
    file = dicom.write(ds, tmp_path / "one.dcm")
    ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(file, enforce_file_format=True)
    report = as_shipped(peers.storescu_command([file], node.port, "ECHO", "CT1", [option]))
    assert len(report.acknowledged) == 1
    assert_kept_byte_for_byte(node, [file])


def secured(authority: Authority) -> list[str]:
    mine = authority.sign("dcmtk")
    return ["+tls", str(mine.key), str(mine.certificate), "+cf", str(authority.own.certificate)]


def test_storescu_and_echoscu_over_tls(
    node: Receiver, files: list[Path], authority: Authority, tls_port: int
) -> None:
    secure = secured(authority)
    words = peers.storescu_command(files, tls_port, "ECHO", "CT1", secure)
    assert len(as_shipped(words).acknowledged) == len(files)
    assert_kept_byte_for_byte(node, files)
    echo = [require.program("echoscu", "dcmtk"), "-aec", "BROOKBOX", "127.0.0.1"]
    assert subprocess.run([*echo, *secure, str(tls_port)], timeout=30).returncode == 0
    assert subprocess.run([*echo, str(node.port)], timeout=30).returncode == 0
    without = subprocess.run([*echo, str(tls_port)], capture_output=True, timeout=60)
    assert without.returncode != 0


@pytest.mark.parametrize("longest", [0, 4096, 16382])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_pynetdicom(node: Receiver, tmp_path: Path, longest: int, syntax: str) -> None:
    study = dicom.ct_study(3, size=128)
    sent = [dicom.write(ds, tmp_path / f"{n}.dcm", syntax) for n, ds in enumerate(study)]
    ae = AE("PYNETDICOM")
    ae.maximum_pdu_size = longest
    ae.add_requested_context(CTImageStorage, syntax)
    ae.add_requested_context("1.2.840.10008.1.1")
    assoc = ae.associate("127.0.0.1", node.port, ae_title="ECHO")
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0
    answers: list[Dataset] = [awake(assoc).send_c_store(one) for one in sent]
    assoc.release()
    assert [one.Status for one in answers] == [0] * 3
    assert_kept_byte_for_byte(node, sent)


def test_orthanc_stores_by_its_rest_interface(
    node: Receiver, files: list[Path], tmp_path: Path
) -> None:
    modalities = {"node": ["ECHO", "127.0.0.1", node.port]}
    with orthanc.running(tmp_path / "orthanc", {"DicomModalities": modalities}) as peer:
        assert post(peer, "/modalities/node/echo", {}) == {}
        ids = [post(peer, "/instances", one.read_bytes())["ID"] for one in files]
        told = post(peer, "/modalities/node/store", {"Resources": ids, "Synchronous": True})
        assert (told["InstancesCount"], told["FailedInstancesCount"]) == (len(files), 0)
    assert_kept_byte_for_byte(node, files)


def test_orthanc_stores_over_tls(
    node: Receiver, files: list[Path], tmp_path: Path, authority: Authority, tls_port: int
) -> None:
    mine = authority.sign("orthanc")
    place = {"AET": "ECHO", "Host": "127.0.0.1", "Port": tls_port, "UseDicomTls": True}
    settings = {
        "DicomModalities": {"node": place},
        "DicomTlsCertificate": str(mine.certificate),
        "DicomTlsPrivateKey": str(mine.key),
        "DicomTlsTrustedCertificates": str(authority.own.certificate),
    }
    with orthanc.running(tmp_path / "orthanc", settings) as peer:
        ids = [post(peer, "/instances", one.read_bytes())["ID"] for one in files]
        told = post(peer, "/modalities/node/store", {"Resources": ids, "Synchronous": True})
        assert told["FailedInstancesCount"] == 0
    assert_kept_byte_for_byte(node, files)


def post(peer: orthanc.Orthanc, path: str, body: bytes | dict[str, Any]) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{peer.http_port}{path}", data)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_dcmjs_dimse(node: Receiver, files: list[Path]) -> None:
    assert dcmjs_dimse.send(files, node.port, "ECHO") == [0] * (len(files) + 1)
    assert_kept_as_image(node, files)


def test_dcmjs_dimse_over_tls(
    node: Receiver, files: list[Path], authority: Authority, tls_port: int
) -> None:
    mine, ca = authority.sign("dcmjs"), authority.own.certificate
    assert dcmjs_dimse.send(files, tls_port, "ECHO", mine, ca) == [0] * (len(files) + 1)
    assert_kept_as_image(node, files)


def test_brookbox_sends_to_brookbox(node: Receiver, files: list[Path]) -> None:
    """Real images too: each in its own transfer syntax."""
    real = sorted((require.real_data() / "compressed" / "cornerstone").glob("CTImage*Process*"))
    told = [
        sys.executable, "-m", "appliance.cli", "--home", str(node.home), "--config",
        str(node.config), "send", "store", f"ECHO@127.0.0.1:{node.port}", *map(str, files),
    ]  # fmt: skip
    done = subprocess.run(told, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{len(files)} of {len(files)} files were sent to ECHO" in done.stdout
    assert "images and" in done.stdout
    assert "MB per second" in done.stdout
    assert_kept_byte_for_byte(node, files)
    one = subprocess.run([*told[: -len(files)], str(real[0])], capture_output=True, timeout=120)
    assert one.returncode == 0
    assert_kept_byte_for_byte(node, real[:1])
