"""Behind NAT all senders share one address: no rule and no limit by address may hold them up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.promises.test_strangers import ACCEPTED, GONE, ask
from tests.service.conftest import Receiver

BUSY = b"\3\2\3\1"  # refused for now, unjudged


@pytest.mark.parametrize("behind_nat", [True, False])
def test_behind_nat_a_stranger_does_not_slow_his_neighbours_down(
    receiver: Receiver, behind_nat: bool
) -> None:
    receiver.settings = {
        "receiver": {
            "processes": 1,
            "refusals_a_minute": 1,
            "allow_addresses": ["10.0.0.0/8"] if behind_nat else [],
            "behind_nat": behind_nat,
        }
    }
    receiver.write_settings()
    receiver.start()
    with ThreadPoolExecutor(12) as guessers:
        told = set(guessers.map(lambda n: ask(receiver.port, b"GUESS%d" % n), range(36)))
    assert told == ({GONE} if behind_nat else {GONE, BUSY})
    if behind_nat:
        assert ask(receiver.port, b"ECHO") == ACCEPTED, "nor does allow_addresses count"
