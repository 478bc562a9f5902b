"""What a peer does not take as it is arrives decoded, and the peer's own log says how."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import pixel_array
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import evt

from appliance.dicom import part10
from appliance.errors import AssociationFailed
from appliance.router import store_scu
from appliance.router.data_set import Reader
from appliance.router.decoding import Decoder, NotDecoded
from appliance.router.rules import Destination
from appliance.router.send_files import send_files
from appliance.router.store_scu import Outgoing, Result
from appliance.settings import Settings
from tests.kit import dicom, orthanc, require
from tests.kit.peers import Pacs
from tests.service.router.bench import Bench, scp

EXPLICIT = (CTImageStorage, ExplicitVRLittleEndian)


def destination(port: int) -> Destination:
    return Destination("p", "PACS0", "127.0.0.1", port, "BROOKBOX")


def compressed(path: Path, syntax: str = RLELossless, number: int = 1) -> tuple[Path, np.ndarray]:
    """Write a slice without loss; give its file and its pixels."""
    ds = dicom.ct_slice(number)
    dicom.write(ds, path)
    pixels = pixel_array(ds)
    ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
    return path, pixels


def send(port: int, *paths: Path) -> list[Result]:
    return send_files(paths, destination(port), Settings())


@pytest.mark.parametrize("syntax", [RLELossless, ExplicitVRLittleEndian])
def test_a_storescp_that_takes_implicit_only_gets_implicit(
    tmp_path: Path, pacs: Pacs, syntax: str
) -> None:
    file, pixels = compressed(tmp_path / "one.dcm")
    if syntax == ExplicitVRLittleEndian:
        file = dicom.write(dicom.ct_slice(), tmp_path / "plain.dcm")
        pixels = pixel_array(pydicom.dcmread(file))
    pacs.start("+xi")
    [result] = send(pacs.port, file)
    assert (result.kind, result.status) == ("sent", 0)
    assert "It was decoded from" in result.sentence
    [kept] = pacs.files()
    found = pydicom.dcmread(kept)
    assert found.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert found.SOPInstanceUID == pydicom.dcmread(file).SOPInstanceUID
    assert np.array_equal(pixel_array(found), pixels)


def test_what_is_taken_as_it_is_goes_first_and_byte_for_byte(tmp_path: Path, pacs: Pacs) -> None:
    """storescp takes the uncompressed syntaxes only, unless it is told otherwise."""
    first, pixels = compressed(tmp_path / "a.dcm", JPEG2000Lossless)
    second = dicom.write(dicom.ct_slice(2), tmp_path / "b.dcm")
    pacs.start()
    told: list[str] = []
    results = send_files(
        [first, second],
        destination(pacs.port),
        Settings(),
        on_progress=lambda result: told.append(result.outgoing.path.name),
    )
    assert told == ["b.dcm", "a.dcm"]
    assert ["It was decoded" in one.sentence for one in results] == [True, False]
    kept = {pydicom.dcmread(one).SOPInstanceUID: one for one in pacs.files()}
    sent = second.read_bytes()
    as_it_is = kept[pydicom.dcmread(second).SOPInstanceUID].read_bytes()
    assert as_it_is.endswith(sent[part10.read_meta(second)[1] :])
    decoded = pydicom.dcmread(kept[pydicom.dcmread(first).SOPInstanceUID])
    assert np.array_equal(pixel_array(decoded), pixels)
    assert "LossyImageCompression" not in decoded


def test_real_images_reach_a_peer_that_takes_explicit_only(tmp_path: Path) -> None:
    files = sorted((require.real_data() / "compressed" / "cornerstone").glob("CTImage*"))
    marks: dict[str, str] = {}

    def note(event: evt.Event) -> int:
        ds = event.dataset
        marks[str(ds.SOPInstanceUID) + str(len(marks))] = ds.get("LossyImageCompression", "")
        assert event.context.transfer_syntax == ExplicitVRLittleEndian
        return 0

    with scp(note, EXPLICIT) as (port, _):
        results = send(port, *files)
    failed = [one for one in results if one.kind != "sent"]
    assert len(failed) == 2
    assert all("there is no decoder for JPEG" in one.sentence for one in failed)
    assert {one.kind for one in failed} == {"failed"}
    assert sorted(marks.values())[-1] == "01"


def test_orthanc_without_jpeg_2000_takes_it_decoded(tmp_path: Path) -> None:
    file, _pixels = compressed(tmp_path / "one.dcm", JPEG2000Lossless)
    settings = {"Jpeg2000TransferSyntaxAccepted": False}
    with orthanc.running(tmp_path / "orthanc", settings) as peer:
        [result] = send(peer.port, file)
        assert "It was decoded from JPEG 2000" in result.sentence
        assert peer.count("instances") == 1


def test_the_delivery_and_each_instance_say_that_it_was_decoded(bench: Bench, pacs: Pacs) -> None:
    pacs.start("+xi")
    bench.route_to(pacs.port)
    bench.ended_job(dicom.ct_study(2))
    bench.start()
    [delivery] = bench.wait_for("delivered")
    assert "2 of them were decoded, since it does not take the transfer syntax." in delivery.message
    instances = bench.instances(delivery.id)
    assert all("from Explicit VR Little Endian to Implicit" in one.message for one in instances)
    assert {one.status for one in instances} == {0}


def test_what_cannot_be_decoded_fails_with_a_sentence_and_the_rest_arrive(
    tmp_path: Path, pacs: Pacs
) -> None:
    good, _ = compressed(tmp_path / "good.dcm")
    broken, _ = compressed(tmp_path / "broken.dcm", JPEG2000Lossless)
    whole = broken.read_bytes()
    at = whole.index(b"\xff\x4f\xff\x51")
    broken.write_bytes(whole[: at + 4] + bytes(64) + whole[at + 68 :])
    greedy, _ = compressed(tmp_path / "greedy.dcm")
    ds = pydicom.dcmread(greedy)
    ds.Rows = ds.Columns = 60000
    ds.save_as(greedy)
    pacs.start()
    results = {one.outgoing.path.name: one for one in send(pacs.port, good, broken, greedy)}
    assert results["good.dcm"].kind == "sent"
    for name in ("broken.dcm", "greedy.dcm"):
        assert results[name].kind == "failed"
        assert "cannot be decoded" in results[name].sentence or "memory" in results[name].sentence


@pytest.fixture
def decode(tmp_path: Path) -> Callable[[Decoder], bytes]:
    file, _ = compressed(tmp_path / "one.dcm")

    def once(decoder: Decoder) -> bytes:
        with Reader() as reader, reader.opened(file) as source:
            made = decoder.decode(source, ExplicitVRLittleEndian, lambda: None)
        with closing(made):
            made.seek(0)
            return made.read()

    return once


def test_a_decoder_that_is_killed_is_started_again(decode: Callable[[Decoder], bytes]) -> None:
    with Decoder(Settings(), lambda: False) as decoder:
        first = decode(decoder)
        assert decoder.process_id is not None
        os.kill(decoder.process_id, signal.SIGKILL)
        with pytest.raises(NotDecoded) as caught:
            decode(decoder)
        assert caught.value.is_for_now
        assert decode(decoder) == first


def test_what_has_no_room_decoded_is_tried_again_later(decode: Callable[[Decoder], bytes]) -> None:
    full = replace(Settings(), receiver=replace(Settings().receiver, reserve_gb=1e6))
    with Decoder(full, lambda: False) as decoder, pytest.raises(NotDecoded) as caught:
        decode(decoder)
    assert str(caught.value) == "There is no room for it decoded."
    assert caught.value.is_for_now


def test_decoding_ends_at_once_when_the_node_must_end(
    decode: Callable[[Decoder], bytes],
) -> None:
    must_end = threading.Event()
    with Decoder(Settings(), must_end.is_set) as decoder:
        decode(decoder)
        assert decoder.process_id is not None
        os.kill(decoder.process_id, signal.SIGSTOP)
        must_end.set()
        with pytest.raises(AssociationFailed, match="stopped in the middle"):
            decode(decoder)
        assert decoder.process_id is None


def test_an_association_that_would_be_silent_for_long_is_given_up_for_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_scu, "_SILENT_SECONDS", 0.0)
    monkeypatch.setattr("appliance.router.decoding._LOOK_SECONDS", 0.001)
    file, _ = compressed(tmp_path / "one.dcm")
    plain = dicom.write(dicom.ct_slice(2), tmp_path / "two.dcm")
    opened_by: set[int] = set()

    def note(event: evt.Event) -> int:
        opened_by.add(event.assoc.requestor.port)
        return 0

    instances = [
        Outgoing(CTImageStorage, str(pydicom.dcmread(one).SOPInstanceUID), syntax, one)
        for one, syntax in ((plain, ExplicitVRLittleEndian), (file, RLELossless))
    ]
    results: list[Result] = []
    with scp(note, EXPLICIT) as (port, asked):
        store_scu.send(destination(port), instances, Settings(), on_result=results.append)
    assert [one.kind for one in results] == ["sent", "sent"]
    assert len(asked) == 2
    assert len(opened_by) == 2


def test_d7_the_process_that_decodes_can_open_nothing_more() -> None:
    """No file, no connection: what a codec may be made to do stays within it."""
    words = (
        "import socket\n"
        "from appliance.router import decoder\n"
        "decoder._limit(1000)\n"
        "for opens in (socket.socket, lambda: open('/etc/hostname')):\n"
        "    try:\n"
        "        opens()\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(errno.EMFILE)] * 2, done.stderr
