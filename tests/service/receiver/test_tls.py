"""DICOM over TLS: DCMTK and pynetdicom as SCU, with a CA that both must be signed by."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from appliance.receiver import tls
from tests.kit import peers, require
from tests.kit.certificates import Authority, Pair
from tests.kit.dicom import ct_study, write_study
from tests.kit.waiting import free_port, is_listening, wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import raw_request


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    return authority.sign("node")


@pytest.fixture
def secured(receiver: Receiver, authority: Authority, own: Pair) -> Iterator[Receiver]:
    """A receiver that wants to see certificates of that CA."""
    receiver.settings = {
        "receiver": {
            "tls_port": free_port(),
            "tls_certificate_file": str(own.certificate),
            "tls_key_file": str(own.key),
            "tls_ca_file": str(authority.own.certificate),
            "header_timeout_seconds": 3,
        }
    }
    receiver.write_settings()
    receiver.start()
    yield receiver


def port(receiver: Receiver) -> int:
    return int(receiver.settings["receiver"]["tls_port"])


def test_a_study_by_storescu_over_tls(
    secured: Receiver, authority: Authority, tmp_path: Path
) -> None:
    files = write_study(ct_study(3, size=256), tmp_path)
    mine = authority.sign("dcmtk")
    secure = ["+tls", str(mine.key), str(mine.certificate), "+cf", str(authority.own.certificate)]
    words = peers.storescu_command(files, port(secured), "ECHO", "CT1", secure)
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=60, env=peers.environment()
    )
    assert len(peers.report(done.returncode, done.stdout + done.stderr).acknowledged) == 3
    assert len(secured.instances()) == 3
    assert len(peers.storescu(files, secured.port, "ECHO").acknowledged) == 3, "and without"
    echo = [require.program("echoscu", "dcmtk"), *secure, "-aec", "ECHO", "127.0.0.1"]
    assert subprocess.run([*echo, str(port(secured))], timeout=30).returncode == 0


def test_a_study_by_pynetdicom_over_tls_and_who_has_no_certificate(
    secured: Receiver, authority: Authority, tmp_path: Path
) -> None:
    context = ssl.create_default_context(cafile=str(authority.own.certificate))
    mine = authority.sign("pynetdicom")
    ae = AE(ae_title="CT1")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)

    def associate() -> bool:
        assoc = ae.associate(
            "127.0.0.1", port(secured), ae_title="ECHO", tls_args=(context, "127.0.0.1")
        )
        if not assoc.is_established:
            return False
        for file in write_study(ct_study(2, size=512), tmp_path):
            assert assoc.send_c_store(pydicom.dcmread(file)).Status == 0x0000
        assoc.release()
        return True

    assert not associate(), "it showed no certificate"
    context.load_cert_chain(mine.certificate, mine.key)
    assert associate()
    assert len(secured.instances()) == 2
    wait_for(lambda: "no TLS handshake" in secured.text(), "who failed is told of")


def test_at_04_what_is_no_tls_is_closed_on_the_tls_port(secured: Receiver) -> None:
    for said in (raw_request(b"ECHO", b"CT1"), b"GET / HTTP/1.1\r\n\r\n", b""):
        with closing(socket.create_connection(("127.0.0.1", port(secured)), 10)) as one:
            one.sendall(said)
            one.settimeout(20)
            with suppress(ConnectionError):
                while one.recv(4096):
                    pass
    assert peers.echoscu(secured.port, "ECHO")
    assert secured.text().count("no TLS handshake") <= 2, "once a minute and process"


def test_at_01_a_lie_about_a_length_is_cut_off_over_tls_too(
    secured: Receiver, authority: Authority
) -> None:
    context = ssl.create_default_context(cafile=str(authority.own.certificate))
    mine = authority.sign("liar")
    context.load_cert_chain(mine.certificate, mine.key)
    with (
        closing(socket.create_connection(("127.0.0.1", port(secured)), 10)) as plain,
        closing(context.wrap_socket(plain, server_hostname="127.0.0.1")) as liar,
    ):
        liar.settimeout(20)
        liar.sendall(b"\1\0\xff\xff\xff\xff" + bytes(100))
        assert liar.recv(1) in (b"\x07", b"")
    wait_for(lambda: "a PDU of 4294967295 bytes" in secured.text(), "it is told of")


@pytest.mark.parametrize("lacks", ["tls_certificate_file", "tls_key_file", "tls_ca_file"])
def test_what_is_wrong_with_the_files_is_said_with_what_to_do(
    receiver: Receiver, authority: Authority, own: Pair, lacks: str
) -> None:
    files = {
        "tls_port": free_port(),
        "tls_certificate_file": str(own.certificate),
        "tls_key_file": str(own.key),
        "tls_ca_file": str(authority.own.certificate),
    }
    receiver.settings = {"receiver": {**files, lacks: "none.pem"}}
    receiver.write_settings()
    receiver.start(ready=False)
    assert receiver.process is not None
    assert receiver.process.wait(30) == 1
    assert "none.pem" in receiver.text() and "try: " in receiver.text()
    assert not is_listening(receiver.port)


def test_at_13_old_tls_is_not_spoken(authority: Authority, own: Pair, receiver: Receiver) -> None:
    receiver.settings = {
        "receiver": {
            "tls_port": 1, "tls_certificate_file": str(own.certificate),
            "tls_key_file": str(own.key),
        }
    }  # fmt: skip
    receiver.write_settings()
    context = tls.context_of(receiver.loaded)
    assert context is not None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE, "no CA file: the sender need show nothing"
