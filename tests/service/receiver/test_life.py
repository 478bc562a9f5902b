"""The receiver's life: killed, stopped, silent peers, lost connections, a taken port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pydicom

from appliance.disk.studies import dataset_digest
from appliance.index.states import Ending
from tests.kit import peers
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import (
    associate,
    ct_slice_with_meta,
    half_a_c_store,
    rejection,
    wire,
)


def test_ft_02_a_child_killed_in_mid_data_set_loses_only_its_own_associations(
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
            row.ending == Ending.PROCESS_DIED
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


def test_a_receiver_killed_while_it_receives_keeps_what_it_acknowledged(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    study = ct_study(300, size=200)
    files = write_study(study, tmp_path / "sent")
    command = peers.storescu_command(files, receiver.port, "ECHO", "CT1")
    sender = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=peers.environment())  # fmt: skip
    wait_for(lambda: len(receiver.stored()) >= 10, "some arrived")
    receiver.kill()
    out, _ = sender.communicate(timeout=60)
    report = peers.report(sender.returncode, out)
    assert 9 <= len(report.acknowledged) < 300
    receiver.start()
    for path in report.acknowledged:
        row = receiver.instance(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        assert row is not None
        assert dataset_digest(receiver.layout.root / row.path) == dataset_digest(path)
    assert receiver.waiting() == []
    (row,) = receiver.associations()
    assert row.ending == Ending.PROCESS_DIED
    assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 300
    assert len(receiver.stored()) == len(receiver.instances()) == 300


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


def test_the_port_is_free_while_children_of_a_killed_parent_finish(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    assoc = associate(receiver)
    assert assoc.send_c_store(ct_slice_with_meta()).Status == 0
    assert receiver.process is not None
    receiver.process.kill()
    receiver.process.wait()
    receiver.start()
    assert assoc.send_c_store(ct_slice_with_meta()).Status == 0, "it is let finish"
    assoc.release()


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
    first = wait_for(receiver.associations, "its row is there")[0].last_activity_at
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


def test_ft_18_sigterm_lets_an_association_finish_and_accepts_no_more(
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


def test_ft_18_sigterm_waits_until_the_end_of_an_association_is_written(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.prelude = (
        "import time\nfrom appliance.index import arrivals\n"
        "whole = arrivals.close_association\n"
        "def slowly(*args, **words):\n    time.sleep(2)\n    return whole(*args, **words)\n"
        "arrivals.close_association = slowly\n"
    )
    receiver.start()
    assoc = associate(receiver)
    assert assoc.send_c_store(ct_slice_with_meta()).Status == 0
    process = receiver.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: not is_open(receiver.port), "nobody is accepted any more")
    assoc.release()
    assert process.wait(20) == 0
    assert [row.ending for row in receiver.associations()] == [Ending.RELEASED]


def test_ft_18_sigterm_does_not_wait_for_a_peer_that_sends_nothing(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.start()
    assoc = associate(receiver)
    assert assoc.send_c_store(ct_slice_with_meta()).Status == 0
    started = time.monotonic()
    assert receiver.stop() == 0
    assert time.monotonic() - started < 28
    assert [row.ending for row in receiver.associations()] == [Ending.ABORTED]
    assoc.abort(block=False)


def test_ft_18_sigterm_aborts_what_has_not_finished_in_time(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.prelude = (
        "from appliance.receiver import child\n"
        "child._FINISH_SECONDS, child._SILENT_SECONDS = 2.0, 60.0\n"
    )
    receiver.start()
    ds = ct_slice(size=256)
    message = half_a_c_store(ds, write(ds, tmp_path / "a.dcm"))
    assoc = associate(receiver)
    connection, process = wire(assoc), receiver.process
    assert process is not None
    connection.sendall(message[: len(message) // 2])
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: not is_open(receiver.port), "nobody is accepted any more")
    assert process.wait(20) == 0
    assert [row.ending for row in receiver.associations()] == [Ending.ABORTED]
    assert receiver.instances() == receiver.waiting() == []
    assoc.abort(block=False)


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
    assert time.monotonic() - started < 20
    for one in idle:
        one.close()
