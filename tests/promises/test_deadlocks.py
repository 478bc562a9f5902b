"""Show 4: a receiving process that deadlocks is noticed and mended, and the others go on."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pynetdicom.association import Association

from appliance.health import answers
from appliance.index import events
from appliance.receiver.pulse import Pulse, Watch
from tests.kit import peers
from tests.kit.dicom import ct_study, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import associate
from tests.service.receiver.test_life import ct_slice_with_meta

# In a receiving process whose gate stands, one call of a method waits for ever.
DEADLOCK = """
import multiprocessing, pathlib, threading
from appliance.receiver.{module} import {owner} as _owner
_whole, _lock = _owner.{method}, threading.Lock()
_lock.acquire()
def _deadlock(*args):
    try:
        (pathlib.Path({gates!r}) / multiprocessing.current_process().name).unlink()
    except FileNotFoundError:
        return _whole(*args)
    _lock.acquire()
_owner.{method} = _deadlock
"""
PLACES = {
    "serves nobody": ("connections", "Connections", "take"),
    "answers no request": ("judge", "Judge", "_decide"),
    "answers no C-STORE": ("hot_loop", "HotLoop", "_keep"),
}


@pytest.fixture
def gates(tmp_path: Path) -> Path:
    folder = tmp_path / "gates"
    folder.mkdir()
    return folder


def deadlocking(receiver: Receiver, place: str, gates: Path) -> None:
    """Start it; a process of which a gate is opened will deadlock there."""
    module, owner, method = PLACES[place]
    receiver.settings["receiver"] = {"stuck_seconds": 5}
    receiver.write_settings()
    receiver.prelude = DEADLOCK.format(module=module, owner=owner, method=method, gates=str(gates))
    receiver.start()


def pids(receiver: Receiver) -> set[int]:
    return {one.pid for one in receiver.children()}


def restarts_told(receiver: Receiver) -> list[str]:
    with receiver.db.read() as connection:
        told = events.latest(connection, 100)
    return [event.sentence for event in told if event.kind == "restarted"]


def call_until(is_enough: Callable[[], bool], call: Callable[[], object]) -> None:
    """Call again and again, without waiting for what is never answered."""

    def called() -> bool:
        threading.Thread(target=call, daemon=True).start()
        return is_enough()

    wait_for(called, "each process has deadlocked", 60)


@pytest.mark.parametrize(
    "place",
    [
        "serves nobody",
        pytest.param("answers no request", marks=pytest.mark.long),
        "answers no C-STORE",
    ],
)
def test_show_4_receiving_processes_that_all_deadlock_are_started_again(
    receiver: Receiver, gates: Path, tmp_path: Path, place: str
) -> None:
    files = write_study(ct_study(1), tmp_path / "study")
    deadlocking(receiver, place, gates)
    before = pids(receiver)
    assert len(before) == 2
    for number in range(2):
        (gates / f"receiver-{number}").touch()
    senders: list[threading.Thread] = []

    def send() -> None:
        if len(senders) < 12:
            senders.append(threading.current_thread())
            peers.storescu(files, receiver.port, "ECHO")

    call_until(lambda: not list(gates.iterdir()), send)
    wait_for(lambda: len(pids(receiver) - before) == 2, "both were started again", 60)
    told = wait_for(lambda: len(restarts_told(receiver)) == 2 and restarts_told(receiver), "events")
    assert {f"(pid {pid}) was restarted" in " ".join(told) for pid in before} == {True}
    for one in senders:
        one.join(60)
    after = pids(receiver)
    assert len(peers.storescu(files, receiver.port, "ECHO").acknowledged) == 1
    assert answers.echo("127.0.0.1", receiver.port, "ECHO", "CT1", 10) == ""
    assert pids(receiver) == after
    assert receiver.stop() == 0


def with_another(receiver: Receiver, stuck: int) -> Association | None:
    """Open an association; None when the process that has deadlocked took it, in a thread left."""
    assoc = associate(receiver)
    receiver.settle()
    rows = [row for row in receiver.associations() if row.closed_at is None]
    if assoc.is_established and rows and int(rows[-1].process.split("/")[1]) != stuck:
        return assoc
    assoc.abort(block=False)
    return None


def test_show_4_the_other_process_goes_on_while_one_that_deadlocked_is_ended(
    receiver: Receiver, gates: Path
) -> None:
    deadlocking(receiver, "serves nobody", gates)
    before = pids(receiver)
    (gates / "receiver-0").touch()
    call_until(
        lambda: not list(gates.iterdir()),
        lambda: answers.echo("127.0.0.1", receiver.port, "ECHO", "CT1", 2),
    )
    # Its peer is silent for longer than a step may take: waiting for a peer is none.
    assoc = wait_for(lambda: with_another(receiver, min(before)), "the other one serves", 60)
    wait_for(lambda: len(pids(receiver) - before) == 1, "one was started again", 60)
    first = wait_for(lambda: restarts_told(receiver), "it is told")
    assert assoc.send_c_store(ct_slice_with_meta()).Status == 0x0000
    assoc.release()
    assert len(pids(receiver) & before) == 1
    assert restarts_told(receiver) == first
    assert receiver.stop() == 0


def test_a_process_is_well_until_its_loop_stands_or_a_step_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    watch = Watch(Pulse())
    assert [watch.well_at(now) for now in (99.0, 100.0, 130.0)] == [99.0, 100.0, 100.0]
    clock = 110.0
    with watch.step():
        clock = 120.0
        watch.note_turn()
        assert watch.well_at(130.0) == 110.0, "the step began then"
    assert watch.well_at(130.0) == 120.0, "the loop turned last then"
    with watch.step(bytes_to_write=100_000_000):
        clock = 200.0
        watch.note_turn()
        assert watch.well_at(200.0) == 120.0 + 50, "it may write slowly"


def test_what_a_process_says_its_parent_reads() -> None:
    pulse = Pulse()
    child = multiprocessing.get_context("fork").Process(target=pulse.set, args=(42.5,))
    child.start()
    child.join(30)
    assert pulse.well_at() == 42.5
