"""Who waits for connections in which order: the processes by turns."""

from __future__ import annotations

from random import Random

from appliance.receiver.door import TURN_SECONDS, Steps

THREADS = 4


def test_the_processes_come_by_turns_however_they_began() -> None:
    chance = Random(7)
    processes = [Steps(0.0), Steps(0.5)]
    # The threads of one process begin together, those of the other a moment later.
    began = {(number, one): 1000.0 + 0.01 * number for number in (0, 1) for one in range(THREADS)}
    for _ in range(300):
        who = min(began, key=lambda thread: began[thread])
        in_vain = began[who] + TURN_SECONDS + chance.uniform(0, 0.001)
        began[who] = in_vain + max(0.0, processes[who[0]].pause(in_vain))
    order = [number for number, _ in sorted(began, key=lambda thread: began[thread])]
    assert order in ([0, 1] * THREADS, [1, 0] * THREADS)
    assert max(began.values()) - min(began.values()) < TURN_SECONDS


def test_a_thread_that_is_late_by_little_does_not_pause() -> None:
    steps = Steps(0.0)
    first = steps.pause(1000.0)
    assert first == 0.0
    assert -0.01 < steps.pause(1000.0 + TURN_SECONDS / THREADS + 0.005) < 0.0
