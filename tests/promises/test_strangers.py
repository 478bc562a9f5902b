"""AT-06: who may not send is refused for good, cannot guess at speed, and is told of once."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.receiver.pace import MOST_WAITING, PAUSE_SECONDS, Pace, Strikes
from tests.kit import peers
from tests.kit.dicom import ct_study, write_study
from tests.kit.waiting import wait_for
from tests.service.conftest import Receiver
from tests.service.receiver.peer import raw_request


def ask(port: int, called: bytes, calling: bytes = b"CT1", source: str = "127.0.0.1") -> bytes:
    """Ask for an association from an address of this machine; what the PDU of the answer begins."""
    with socket.create_connection(("127.0.0.1", port), 60, source_address=(source, 0)) as peer:
        peer.sendall(raw_request(called, calling))
        answer = peer.recv(10)
        return answer[:1] + answer[7:10] if answer[:1] == b"\3" else answer[:1]


GONE, STRANGER, ACCEPTED = b"\3\1\1\7", b"\3\1\1\3", b"\2"


def test_at_06_who_is_not_known_is_rejected_for_good(receiver: Receiver) -> None:
    receiver.settings = {
        "receiver": {"allow_calling": ["CT1"], "allow_addresses": ["127.0.0.1/32"]}
    }
    receiver.write_settings()
    receiver.start()
    assert ask(receiver.port, b"NOBODY") == GONE
    assert ask(receiver.port, b"ECHO", b"STRANGER") == STRANGER
    # The right AE title from a wrong address is no better, and does not learn which streams are.
    assert ask(receiver.port, b"ECHO", source="127.0.0.9") == STRANGER
    assert ask(receiver.port, b"NOBODY", source="127.0.0.9") == STRANGER
    assert ask(receiver.port, b"ECHO") == ACCEPTED
    told = {event.sentence for event in receiver.events("association refused")}
    assert any("127.0.0.9" in one and "allow_addresses" in one for one in told)


def test_at_06_guessing_is_slow_and_delays_nobody_else(receiver: Receiver, tmp_path: Path) -> None:
    receiver.settings = {"receiver": {"processes": 1, "refusals_a_minute": 5}}
    receiver.write_settings()
    receiver.start()
    files = write_study(ct_study(3), tmp_path)
    assert [ask(receiver.port, b"GUESS%d" % n, source="127.0.0.7") for n in range(5)] == [GONE] * 5
    busy, seen = b"\3\2\3\1", threading.Event()

    def guess(number: int) -> set[bytes]:
        told = set()
        while not seen.is_set():
            told.add(ask(receiver.port, b"GUESS1%d" % number, source="127.0.0.7"))
        return told

    with ThreadPoolExecutor(MOST_WAITING + 1) as guessers:
        guessing = [guessers.submit(guess, number) for number in range(MOST_WAITING + 1)]
        try:
            wait_for(
                lambda: ask(receiver.port, b"ECHO", source="127.0.0.7") == busy,
                "unjudged while others of its address wait: not even a good guess is told",
            )
            report = peers.storescu(files, receiver.port, "ECHO")
        finally:
            seen.set()
        assert len(report.acknowledged) == 3, "another address is received all the while"
        assert set().union(*(one.result() for one in guessing)) <= {GONE, busy}
    wait_for(lambda: ask(receiver.port, b"ECHO", source="127.0.0.7") == ACCEPTED, "it may again")


def test_at_06_a_thousand_guesses_are_a_few_lines_and_events(receiver: Receiver) -> None:
    receiver.settings = {"receiver": {"processes": 1, "refusals_a_minute": 0}}
    receiver.write_settings()
    receiver.start()
    for number in range(150):
        assert ask(receiver.port, b"G%d" % number, source="127.0.0.7") == GONE
    told = receiver.events("association refused")
    assert len(told) == 11
    assert "somebody may be guessing" in told[0].sentence
    assert receiver.text().count("association refused") == 11
    assert ask(receiver.port, b"WRONG") == GONE
    assert "WRONG" in receiver.events("association refused")[0].sentence, "another sender's is told"


def test_at_06_strikes_are_those_of_the_last_minute() -> None:
    strikes = Strikes()
    assert [strikes.add("a", at) for at in (0, 1, 59, 60.5, 61.5)] == [1, 2, 3, 3, 3]
    assert strikes.add("b", 61.5) == 1
    for number in range(30_000):
        strikes.add(f"{number}", 200)
    assert strikes.add("a", 200) == 1, "addresses are forgotten before they fill the memory"


@pytest.mark.parametrize("most", [0, 2])
def test_at_06_only_refusals_over_the_limit_wait(most: int) -> None:
    pauses: list[float] = []
    pace = Pace(pauses.append)
    assert [pace.keep("a", most) for _ in range(4)] == [1, 2, 3, 4]
    assert pauses == ([PAUSE_SECONDS] * 2 if most else [])
    assert pace.overrun("a") is None, "nobody waits any more"


def test_at_06_only_so_many_of_one_address_wait() -> None:
    gate = threading.Event()
    pace = Pace(lambda seconds: bool(gate.wait(30)) and None)
    threads = [threading.Thread(target=pace.keep, args=("a", 1)) for _ in range(MOST_WAITING + 1)]
    for thread in threads:
        thread.start()
    wait_for(lambda: pace.overrun("a") is not None, "they wait")
    assert pace.overrun("b") is None
    gate.set()
    for thread in threads:
        thread.join(30)
    assert pace.overrun("a") is None
