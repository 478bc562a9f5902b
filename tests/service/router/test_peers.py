"""Peers that lie, stall or refuse: each is told in a sentence, and none holds the sender."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.events import Event

from appliance.errors import AssociationFailed
from appliance.router import echo, store_scu
from appliance.router.rules import Destination
from appliance.router.send_files import send_files
from appliance.router.store_scu import Outgoing, Result
from appliance.settings import Settings
from tests.kit import dicom
from tests.kit.peers import Pacs
from tests.kit.waiting import free_port
from tests.service.router.bench import scp, uids

CT = (CTImageStorage, ExplicitVRLittleEndian)
REJECT = struct.pack(">BBLBBBB", 3, 0, 4, 0, 2, 3, 1)
ABORT = struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 2, 6)


def destination(port: int, **facts: object) -> Destination:
    quick: dict[str, object] = {
        "association_timeout_seconds": 1.0, "answer_timeout_seconds": 1.0, **facts
    }  # fmt: skip
    return Destination("p", "PACS0", "127.0.0.1", port, "BROOKBOX", **quick)  # type: ignore[arg-type]


def outgoing(folder: Path, count: int = 1) -> list[Outgoing]:
    return [
        Outgoing(ds.SOPClassUID, ds.SOPInstanceUID, ExplicitVRLittleEndian, path)
        for ds, path in (
            (ds, dicom.write(ds, folder / f"{ds.SOPInstanceUID}.dcm"))
            for ds in dicom.ct_study(count)
        )
    ]


def send(to: Destination, instances: list[Outgoing]) -> list[Result]:
    results: list[Result] = []
    store_scu.send(to, instances, Settings(), on_result=results.append)
    return results


@contextmanager
def peer(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Lend the port of a peer that does with a connection what it is told."""
    server = socket.create_server(("127.0.0.1", 0))

    def loop() -> None:
        while True:
            try:
                one, _ = server.accept()
            except OSError:
                return
            with one:
                try:
                    serve(one)
                except OSError:
                    continue

    threading.Thread(target=loop, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()


def trickle(one: socket.socket) -> None:
    one.recv(65536)
    while True:
        one.sendall(b"\x02")
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("serve", "says", "is_permanent"),
    [
        (lambda one: one.recv(65536) and one.sendall(REJECT), "temporary congestion, for now", 0),
        (lambda one: one.recv(65536) and one.sendall(ABORT), "aborted the association: invalid", 0),
        (lambda one: one.recv(65536), "closed the connection", 0),
        (lambda one: one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "what is not DICOM", 0),
        (lambda one: one.sendall(b"\x02\x00\xff\xff\xff\xff"), "what is not DICOM", 0),
        (lambda one: one.sendall(struct.pack(">BBL", 2, 0, 20) + b"\xff" * 20), "PACS0 at", 0),
        (lambda one: time.sleep(3), "did not answer within 1 s", 0),
        (trickle, "", 0),
    ],
)
def test_whatever_a_peer_does_instead_of_accepting_ends_in_a_sentence(
    tmp_path: Path,
    serve: Callable[[socket.socket], None],
    says: str,
    is_permanent: bool,
) -> None:
    began = time.monotonic()
    with peer(serve) as port, pytest.raises(AssociationFailed) as caught:
        send(destination(port), outgoing(tmp_path))
    assert says in str(caught.value)
    assert caught.value.is_permanent == bool(is_permanent)
    assert caught.value.remedy
    assert time.monotonic() - began < 20


def test_a_called_ae_title_that_is_not_recognised_is_for_good(tmp_path: Path) -> None:
    other = AE("OTHER")
    other.require_called_aet = True
    other.add_supported_context(*CT)
    server = other.start_server(("127.0.0.1", 0), block=False)
    port = server.socket.getsockname()[1]
    with pytest.raises(AssociationFailed) as caught:
        send(destination(port), outgoing(tmp_path))
    server.shutdown()
    assert str(caught.value) == (
        f"PACS0 at 127.0.0.1:{port} refused the association: "
        "called AE title not recognised, for good (1,1,7)."
    )
    assert caught.value.is_permanent


def test_a_name_that_nobody_knows_and_this_node_itself_are_not_sent_to(tmp_path: Path) -> None:
    nowhere = Destination("p", "PACS0", "nowhere.invalid", 104, "BROOKBOX")
    with pytest.raises(AssociationFailed, match=r"the name nowhere\.invalid is not known"):
        send(nowhere, outgoing(tmp_path))
    with pytest.raises(AssociationFailed, match="is this node itself") as caught:
        send(destination(11113), outgoing(tmp_path))
    assert caught.value.is_permanent


def test_an_answer_in_pieces_is_read(tmp_path: Path) -> None:
    with scp(lambda event: 0xB007, CT) as (port, asked):
        [result] = send(destination(port, max_pdu_bytes=64), outgoing(tmp_path))
    assert (result.kind, result.status, len(asked)) == ("warning", 0xB007, 1)


def test_dcmtk_takes_many_instances_without_waiting_for_delayed_answers(tmp_path: Path) -> None:
    pacs = Pacs(tmp_path / "pacs", "PACS0").start()
    instances = outgoing(tmp_path / "sent", 200)
    began = time.monotonic()
    results = send(destination(pacs.port), instances)
    seconds = time.monotonic() - began
    pacs.stop()
    assert {one.kind for one in results} == {"sent"}
    assert uids(pacs.folder) == sorted(one.sop_instance_uid for one in instances)
    # Each answer would wait 40 ms for a late TCP acknowledgement otherwise.
    assert seconds < 7.5, f"200 instances took {seconds:.1f} s"


def test_an_echo_is_told_step_by_step(tmp_path: Path) -> None:
    pacs = Pacs(tmp_path / "pacs", "PACS0").start()
    steps = echo.test_destination(destination(pacs.port), Settings())
    pacs.stop()
    assert [(one.name, one.is_good) for one in steps] == [
        ("connect", True), ("association", True), ("echo", True),
    ]  # fmt: skip
    pacs.start("--refuse")
    steps = echo.test_destination(destination(pacs.port), Settings())
    pacs.stop()
    assert [one.is_good for one in steps] == [True, False]
    assert "refused the association" in steps[1].sentence
    [step] = echo.test_destination(destination(free_port()), Settings())
    assert (step.name, step.is_good) == ("connect", False)
    assert "nothing listens on that port" in step.sentence


def test_a_peer_without_verification_is_told(tmp_path: Path) -> None:
    with scp(lambda event: 0, CT) as (port, _):
        steps = echo.test_destination(destination(port), Settings())
    assert "does not answer echoes: it does not take this SOP class" in steps[-1].sentence


def test_files_of_a_person_are_sent_and_each_is_told(tmp_path: Path) -> None:
    good = [one.path for one in outgoing(tmp_path, 2)]
    text = tmp_path / "readme.txt"
    text.write_text("This is no DICOM file at all.")
    told: list[Path] = []
    with scp(lambda event: 0, CT) as (port, asked):
        results = send_files(
            [*good, text, tmp_path / "absent"],
            destination(port),
            Settings(),
            own_ae_title="ME",
            on_progress=lambda result: told.append(result.outgoing.path),
        )
    assert [one.kind for one in results] == ["sent", "sent", "failed", "failed"]
    assert len(asked) == 2
    assert sorted(told) == sorted([*good, text, tmp_path / "absent"])


def test_a_person_may_send_to_this_very_node(tmp_path: Path) -> None:
    with scp(lambda event: 0, CT) as (port, _asked):
        itself = replace(Settings(), receiver=replace(Settings().receiver, port=port))
        files = [outgoing(tmp_path)[0].path]
        assert [one.kind for one in send_files(files, destination(port), itself)] == ["sent"]
        assert echo.test_destination(destination(port), itself)[1].is_good


def test_files_for_a_peer_that_is_down_are_told_as_not_sent(tmp_path: Path) -> None:
    results = send_files([outgoing(tmp_path)[0].path], destination(free_port()), Settings())
    assert [one.kind for one in results] == ["later"]
    assert "refused the connection" in results[0].sentence


def test_files_behind_one_that_the_peer_aborts_on_are_sent(tmp_path: Path) -> None:
    study = outgoing(tmp_path, 5)
    bad = study[1].sop_instance_uid

    def aborts(event: Event) -> int:
        if event.request.AffectedSOPInstanceUID == bad:
            event.assoc.abort()
        return 0

    with scp(aborts, CT) as (port, _asked):
        results = send_files([one.path for one in study], destination(port), Settings())
    assert [one.kind for one in results] == ["sent", "later", "sent", "sent", "sent"]
    assert "This was while it was being sent." in results[1].sentence


def test_a_peer_that_aborts_on_everything_is_left_alone(tmp_path: Path) -> None:
    def aborts(event: Event) -> int:
        event.assoc.abort()
        return 0

    with scp(aborts, CT) as (port, asked):
        files = [one.path for one in outgoing(tmp_path, 9)]
        results = send_files(files, destination(port), Settings())
    assert [one.kind for one in results] == ["later"] * 9
    assert len(asked) == 3


def test_two_associations_of_the_same_peer_do_not_share_anything(tmp_path: Path) -> None:
    with scp(lambda event: 0, CT) as (port, asked):
        threads = [
            threading.Thread(target=send, args=(destination(port), outgoing(tmp_path / str(n), 5)))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert len(set(asked)) == 20
