"""Who is let in, and what the others are told (PS3.8 9.3.4)."""

from __future__ import annotations

import signal
import socket
from datetime import UTC, datetime
from pathlib import Path

import pydicom

from appliance.index import lanes, schema
from tests.kit import peers
from tests.kit.dicom import ct_study, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import (
    associate,
    ct_slice_with_meta,
    raw_request,
    rejection,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


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
    wait_for(lambda: rejection(receiver, "FULL") == (2, 3, 1), "each process has looked again")
    held = [associate(receiver, calling=calling) for calling in ("CT1", "CT2")]
    for assoc in held:  # one that brings nothing would have to give way after a while
        assert assoc.send_c_store(ct_slice_with_meta()).Status == 0x0000
    assert rejection(receiver, "ECHO") == (2, 3, 2)
    assert peers.echoscu(receiver.port, "BROOKBOX")
    for assoc in held:
        assoc.release()
    wait_for(lambda: rejection(receiver, "ECHO") == (0, 0, 0), "there is room again")


def test_bi_05_a_malformed_ae_title_is_rejected_with_its_reason(receiver: Receiver) -> None:
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


def test_at_06_an_address_that_may_not_connect_is_rejected(receiver: Receiver) -> None:
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


def test_at_06_a_peer_that_hammers_does_not_fill_the_index(receiver: Receiver) -> None:
    receiver.settings = {"receiver": {"processes": 1}}
    receiver.write_settings()
    receiver.start()
    for _ in range(5):
        assert rejection(receiver, "NOBODY") == (1, 1, 7)
    assert len(receiver.events("association refused")) == 1
    assert receiver.text().count("association refused") == 1


def test_ft_27_an_index_that_is_away_refuses_for_now_and_answers_echo(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.settings = {"index": {"busy_seconds": 0.5}, "receiver": {"processes": 1}}
    receiver.write_settings()
    receiver.prelude = (
        "from appliance.intake import writer\nfrom appliance.receiver import load\n"
        "writer._LONGEST_BEHIND_SECONDS = load._MOST_SECONDS_BEHIND = 2.0\n"
    )
    receiver.start()
    study = [pydicom.dcmread(file) for file in write_study(ct_study(2), tmp_path)]
    assoc = associate(receiver)
    with receiver.db.write():  # somebody holds the index's lock
        assert assoc.send_c_store(study[0]).Status == 0x0000, "it is durable, its row follows"
        wait_for(lambda: assoc.send_c_store(study[1]).Status == 0xA700, "it was away too long")
        wait_for(lambda: rejection(receiver, "ECHO") == (2, 3, 1), "nobody else is let in")
        assert peers.echoscu(receiver.port, "BROOKBOX")
    wait_for(lambda: assoc.send_c_store(study[1]).Status == 0x0000, "it is kept again")
    assoc.release()
    wait_for(lambda: receiver.associations()[0].closed_at, "it is closed")
    assert len(receiver.stored()) == len(receiver.instances()) == 2
