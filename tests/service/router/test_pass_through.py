"""What is sent is what lies in the file, whatever the peer's longest PDU, and however it ends."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt

from appliance.dicom import part10, pdu
from appliance.errors import AssociationFailed
from appliance.router import store_scu
from appliance.router.data_set import Reader
from appliance.router.rules import Destination
from appliance.router.store_scu import Outgoing, Result
from appliance.settings import Settings
from tests.kit import dicom, require
from tests.kit.peers import Pacs
from tests.kit.waiting import wait_for
from tests.service.router.bench import scp
from tests.service.router.deaf import CT, DeafAfterAccept, accepting

ABORT = pdu.abort(pdu.BY_PROVIDER, pdu.INVALID_PARAMETER)


def destination(port: int, **facts: object) -> Destination:
    return Destination("p", "PACS0", "127.0.0.1", port, "BROOKBOX", **facts)  # type: ignore[arg-type]


def outgoing(path: Path, syntax: str = ExplicitVRLittleEndian) -> Outgoing:
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    return Outgoing(str(ds.SOPClassUID), str(ds.SOPInstanceUID), syntax, path)


def send(to: Destination, *instances: Outgoing, **facts: Callable[[], bool]) -> list[Result]:
    results: list[Result] = []
    store_scu.send(to, instances, Settings(), on_result=results.append, **facts)
    return results


def data_set_of(path: Path) -> bytes:
    return path.read_bytes()[part10.read_meta(path)[1] :]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Outgoing]:
    """From a few hundred bytes to several windows, one of odd length."""
    folder = tmp_path_factory.mktemp("files")
    made = [dicom.write(dicom.ct_slice(size=size), folder / f"{size}.dcm") for size in (4, 64, 512)]
    made.append(dicom.write(dicom.ct_slice(size=1200), folder / "large.dcm"))
    odd = dicom.write(dicom.ct_slice(size=900), folder / "odd.dcm")
    odd.write_bytes(odd.read_bytes() + b"\0")
    return [outgoing(one) for one in [*made, odd]]


@pytest.mark.parametrize("longest", ["4096", "16384", "65534", "131072"])
def test_dcmtk_keeps_the_bytes_that_were_sent(
    pacs: Pacs, files: list[Outgoing], longest: str
) -> None:
    pacs.start("-pdu", longest)
    even = files[:-1]  # DCMTK ends the association for an odd data set
    results = send(destination(pacs.port), *even)
    assert {one.status for one in results} == {0}
    kept = {str(pydicom.dcmread(one).SOPInstanceUID): data_set_of(one) for one in pacs.files()}
    assert {uid: digest(data) for uid, data in kept.items()} == {
        one.sop_instance_uid: digest(data_set_of(one.path)) for one in even
    }
    assert sum(one.sent_bytes for one in results) == sum(map(len, kept.values()))


@pytest.mark.parametrize("longest", [0, 4097, 100_000, 1 << 20])
def test_pynetdicom_receives_the_bytes_that_were_sent(files: list[Outgoing], longest: int) -> None:
    came: dict[str, str] = {}
    fragments: list[int] = []

    def store(event: evt.Event) -> int:
        came[str(event.request.AffectedSOPInstanceUID)] = digest(event.request.DataSet.getvalue())
        return 0

    def note(event: evt.Event) -> None:
        if event.data[0] == pdu.P_DATA_TF:
            fragments.append(len(event.data) - pdu.HEAD_BYTES)

    peer = AE("PACS0")
    peer.maximum_pdu_size = longest
    peer.add_supported_context(*CT)
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_DATA_RECV, note)]
    server = peer.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        send(destination(server.socket.getsockname()[1]), *files)
    finally:
        server.shutdown()
    assert came == {one.sop_instance_uid: digest(data_set_of(one.path)) for one in files}
    assert max(fragments) <= min(longest or 131072, 131072)
    assert max(fragments) > min(longest or 131072, 131072) - 8


def test_real_images_in_their_own_syntax_arrive_byte_for_byte() -> None:
    folder = require.real_data() / "compressed" / "cornerstone"
    instances = [
        outgoing(one, part10.read_meta(one)[0].transfer_syntax_uid) for one in folder.glob("*.dcm")
    ]
    came: list[str] = []

    def store(event: evt.Event) -> int:
        came.append(digest(event.request.DataSet.getvalue()))
        return 0

    peer = AE("PACS0")
    for one in instances:
        peer.add_supported_context(*one.pair)
    server = peer.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        results = send(destination(server.socket.getsockname()[1]), *instances)
    finally:
        server.shutdown()
    assert not [one for one in results if "decoded" in one.sentence]
    assert sorted(came) == sorted(digest(data_set_of(one.path)) for one in instances)


def test_a_large_file_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(part10.encode(part10.FileMeta("1.2", "1.3", ExplicitVRLittleEndian)))
    start = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(start + 300_000_001)
    total, lasts = 0, []
    with Reader() as reader, reader.opened(path) as data_set:
        for window, is_last in data_set.windows():
            total += len(window)
            lasts.append(is_last)
            assert len(window) <= 1 << 20
    assert total == 300_000_001
    assert lasts == [False] * (len(lasts) - 1) + [True]


def test_a_file_that_is_cut_while_it_is_sent_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = dicom.write(dicom.ct_slice(size=1200), tmp_path / "cut.dcm")
    with (
        Reader() as reader,
        reader.opened(path) as data_set,
        pytest.raises(OSError, match="became shorter"),
    ):
        for _ in data_set.windows():
            os.truncate(path, 2000)


def test_a_file_that_goes_while_the_answer_before_it_is_awaited_is_not_sent(
    tmp_path: Path,
) -> None:
    files = [outgoing(dicom.write(dicom.ct_slice(n), tmp_path / f"{n}.dcm")) for n in range(3)]
    replaced = dicom.ct_slice(7)

    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == files[0].sop_instance_uid:
            files[1].path.unlink()
            dicom.write(replaced, tmp_path / "new").rename(files[2].path)
        return 0

    with scp(answer, CT) as (port, asked):
        results = send(destination(port), *files)
    assert [(one.kind, one.is_gone) for one in results] == [
        ("sent", False), ("failed", True), ("sent", False)
    ]  # fmt: skip
    assert len(asked) == 2


Serve = Callable[[socket.socket, threading.Event], None]


@contextmanager
def peer(serve: Serve) -> Iterator[int]:
    """Lend the port of a peer that accepts an association, and then does what it is told.

    It is also told when all is over.
    """
    over = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def once() -> None:
        one, _ = server.accept()
        with one:
            one.recv(65536)
            one.sendall(accepting())
            serve(one, over)

    thread = threading.Thread(target=once, daemon=True)
    thread.start()
    with closing(server):
        yield server.getsockname()[1]
        over.set()
        thread.join(20)


def abort_and_close(one: socket.socket, over: threading.Event) -> None:
    one.recv(100_000)
    one.sendall(ABORT)


def abort_and_wait(one: socket.socket, over: threading.Event) -> None:
    one.recv(100_000)
    one.sendall(ABORT)
    over.wait(20)


def abort_and_read_on(one: socket.socket, over: threading.Event) -> None:
    one.recv(100_000)
    one.sendall(ABORT)
    one.settimeout(5)
    while one.recv(1 << 20):
        continue


def reset(one: socket.socket, over: threading.Event) -> None:
    one.recv(100_000)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (abort_and_close, "aborted the association: invalid PDU parameter"),
        (abort_and_wait, "aborted the association: invalid PDU parameter"),
        (abort_and_read_on, "aborted the association: invalid PDU parameter"),
        (reset, "closed the connection"),
    ],
)
def test_an_abort_in_the_middle_of_an_instance_ends_the_sending(
    tmp_path: Path, serve: Serve, says: str
) -> None:
    one = outgoing(dicom.write(dicom.ct_slice(size=4000), tmp_path / "large.dcm"))
    with peer(serve) as port, pytest.raises(AssociationFailed) as caught:
        send(destination(port), one)
    # An abort whose connection is reset behind it may be lost in the peer's own kernel.
    assert says in str(caught.value) or "closed the connection" in str(caught.value)


def test_a_peer_that_stops_reading_does_not_hold_a_node_that_must_end(tmp_path: Path) -> None:
    one = outgoing(dicom.write(dicom.ct_slice(size=3000), tmp_path / "large.dcm"))
    must_end = threading.Event()
    problems: list[AssociationFailed] = []

    def run() -> None:
        try:
            send(destination(deaf.port), one, must_end=must_end.is_set)
        except AssociationFailed as problem:
            problems.append(problem)

    with closing(DeafAfterAccept()) as deaf:
        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: deaf.has_accepted, "the association is open")
        must_end.set()
        thread.join(30)
    assert "was stopped in the middle" in str(problems[0])


def test_odd_sop_classes_and_long_uids_make_a_right_command_set() -> None:
    from appliance.dicom.command_set import StoreRequests

    for sop_class in (CTImageStorage, "1.2.3"):
        for uid in ("1.2", "1.23", "1." + "2" * 62):
            encoded = StoreRequests(sop_class).encode(7, uid)
            ds = pydicom.filereader.read_dataset(pydicom.filebase.DicomBytesIO(encoded), True, True)
            assert len(encoded) == 12 + ds.CommandGroupLength
            assert (ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID) == (sop_class, uid)
            assert (ds.CommandField, ds.MessageID, ds.Priority, ds.CommandDataSetType) == (
                1,
                7,
                0,
                1,
            )
