"""FT-38: little memory, few descriptors, few threads: new ones are refused, nobody crashes."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import psutil
import pydicom
import pytest

from tests.kit import peers
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate, rejection

MB = 1024**2


@pytest.fixture
def child(receiver: Receiver) -> psutil.Process:
    """The one receiving process of a receiver that runs."""
    receiver.settings = {
        "receiver": {
            "processes": 1, "max_associations": 500, "max_connections_per_address": 0,
        }
    }  # fmt: skip
    receiver.write_settings()
    receiver.start()
    [one] = receiver.children()
    return one


def limit(child: psutil.Process, what: int, most: int) -> None:
    """Set a limit of the process while it runs; what it may set itself stays."""
    _, hard = child.rlimit(what)
    child.rlimit(what, (most, hard))


def is_well(receiver: Receiver, child: psutil.Process) -> bool:
    """Say whether it is the same process still and takes associations."""
    assert [one.pid for one in receiver.children()] == [child.pid], "it died"
    return rejection(receiver, "ECHO") == (0, 0, 0)


def test_ft_38_out_of_descriptors_who_is_silent_gives_way_and_open_ones_go_on(
    receiver: Receiver, child: psutil.Process, tmp_path: Path
) -> None:
    study = [pydicom.dcmread(file) for file in write_study(ct_study(2), tmp_path)]
    assoc = associate(receiver)
    assert assoc.send_c_store(study[0]).Status == 0x0000
    # A tenth is kept to work with: the index, digests and the instance itself take some at once.
    most = child.num_fds() + 200
    limit(child, psutil.RLIMIT_NOFILE, most)
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", receiver.port), 10))
            for _ in range(260)  # who says nothing has a descriptor all the same
        ]
        silent[0].settimeout(30)
        assert silent[0].recv(1) == b"", "the oldest has given way"
        before = child.cpu_times()
        with (
            pytest.raises(TimeoutError),
            socket.create_connection(("127.0.0.1", receiver.port), 2) as late,
        ):
            late.recv(1)
        spent = sum(child.cpu_times()[:2]) - sum(before[:2])
        assert spent < 5, "it spins"
        assert peers.echoscu(receiver.port, "BROOKBOX"), "others are answered"
        assert assoc.send_c_store(study[1]).Status == 0x0000, "and who is in is served"
    wait_for(lambda: is_well(receiver, child), "it accepts again", 60)
    assert assoc.is_established
    assoc.release()
    assert len(receiver.instances()) == 2


def test_ft_38_near_the_limit_the_reason_is_told(receiver: Receiver, child: psutil.Process) -> None:
    held = [associate(receiver) for _ in range(30)]
    assert all(one.is_established for one in held)
    most = child.num_fds() + 6
    limit(child, psutil.RLIMIT_NOFILE, most)
    wait_for(lambda: rejection(receiver, "ECHO") == (2, 3, 1), "it is refused for now")
    wait_for(lambda: "files and connections are open" in receiver.text(), "the log says why")
    assert peers.echoscu(receiver.port, "BROOKBOX"), "an echo brings nothing and is answered"
    limit(child, psutil.RLIMIT_NOFILE, 1000)
    wait_for(lambda: is_well(receiver, child), "it accepts again")

    def told() -> list[str]:
        # The index may have been out of reach, too: the event comes with a later refusal.
        rejection(receiver, "NOBODY")
        return [one.sentence for one in receiver.events("association refused")]

    wait_for(lambda: any("files and connections are open" in one for one in told()), "the event")
    for one in held:
        one.release()


def test_ft_38_an_instance_that_memory_does_not_hold_is_kept_all_the_same(
    receiver: Receiver, child: psutil.Process, tmp_path: Path
) -> None:
    small = [pydicom.dcmread(file) for file in write_study(ct_study(2), tmp_path / "small")]
    large = write(ct_slice(size=9000), tmp_path / "large.dcm")  # 162 MB
    assoc = associate(receiver)
    assert assoc.send_c_store(small[0]).Status == 0x0000
    most = child.memory_info().vms + 100 * MB
    limit(child, psutil.RLIMIT_AS, most)
    # It goes from the wire to the disk.
    report = peers.storescu([large], receiver.port, "ECHO", seconds=170)
    assert report.acknowledged == [large]
    wait_for(lambda: is_well(receiver, child), "it accepts again", 60)
    assert assoc.send_c_store(small[1]).Status == 0x0000
    assoc.release()
    assert len(receiver.instances()) == 3
    wait_for(lambda: all(row.closed_at for row in receiver.associations()), "all are closed", 60)


def test_ft_38_where_no_thread_can_be_started_new_associations_end_and_open_ones_go_on(
    receiver: Receiver, child: psutil.Process, tmp_path: Path
) -> None:
    study = [pydicom.dcmread(file) for file in write_study(ct_study(2), tmp_path)]
    assoc = associate(receiver)
    assert assoc.send_c_store(study[0]).Status == 0x0000
    # A thread's stack has no room: pthread_create fails as it does at a limit of threads.
    most = child.memory_info().vms + 4 * MB
    limit(child, psutil.RLIMIT_AS, most)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", receiver.port), 10))
        wait_for(lambda: "can't start new thread" in receiver.text(), "no thread can be started")
        assert rejection(receiver, "ECHO") != (0, 0, 0)
    limit(child, psutil.RLIMIT_AS, -1)
    wait_for(lambda: is_well(receiver, child), "it accepts again", 60)
    assert assoc.send_c_store(study[1]).Status == 0x0000
    assoc.release()
    assert len(receiver.instances()) == 2
