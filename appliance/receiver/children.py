"""The processes that receive side by side: started, watched, started again, stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from appliance import logs
from appliance.lifecycle import Lifecycle
from appliance.receiver import child
from appliance.receiver.listener import Listening
from appliance.receiver.pulse import Pulse
from appliance.receiver.shared_counts import Table
from appliance.settings import Settings

_QUICK_DEATH_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0
_OWN_PAUSE_SECONDS = 5.0
_BEAT_PATIENCE_SECONDS = 10.0
_MOST_DEATHS = 100  # kept while the index is away
_STOP_SECONDS = 36.0  # over the 30 s that a child lets its associations finish

# Forked, so that all share the listening socket and what was imported; the parent
# has neither threads nor a connection to the index when it forks.
_FORK = multiprocessing.get_context("fork")


@dataclass(slots=True)
class _Seat:
    """One child's place, whoever sits in it now."""

    number: int
    process: BaseProcess | None = None
    started_at: float = 0.0
    quick_deaths: int = 0
    start_again_at: float = 0.0
    pulse: Pulse = field(default_factory=Pulse)
    is_ended: bool = False  # killed, and not yet seen dead


@dataclass(frozen=True, slots=True)
class Death:
    """A child that died without our doing; `at` is monotonic."""

    pid: int
    exit_code: int | None
    at: float


class Children:
    """As many receiving processes as the settings say."""

    def __init__(self, listening: Listening, life: Lifecycle) -> None:
        self._listening = listening
        # A child goes on with its copy: a signal between fork and first step is not lost.
        self._life = life
        self._counted = Table()
        self._seats: list[_Seat] = []
        self.deaths: list[Death] = []  # taken by who tells of them
        self._looked_at = self._excused_until = time.monotonic()

    def start(self, settings: Settings) -> None:
        """Start every child that is missing and whose pause is over."""
        while len(self._seats) < settings.receiver.processes:
            self._seats.append(_Seat(len(self._seats)))
        for seat in self._seats:
            if seat.process is None and time.monotonic() >= seat.start_again_at:
                seat.pulse, seat.is_ended = Pulse(), False
                seat.process = _FORK.Process(
                    target=child.run,
                    args=(
                        settings,
                        self._listening,
                        self._life,
                        seat.number,
                        os.getpid(),
                        seat.pulse,
                        self._counted,
                    ),
                    name=f"receiver-{seat.number}",
                )
                seat.process.start()
                seat.started_at = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Wait for a death, at most so long; True when a child died."""
        living = [seat.process.sentinel for seat in self._seats if seat.process is not None]
        if living:
            connection.wait(living, seconds)
        else:
            time.sleep(min(seconds, 0.1))
        dead = [seat for seat in self._seats if self._is_dead(seat)]
        return bool(dead)

    def end_stuck(self, patience_seconds: float) -> dict[int, int]:
        """Kill every child that has not been well for so long; for how long, by process id.

        One that says nothing at all has less time: a C-ECHO only ever meets one of them.
        While the parent itself was stopped, or waited for the index, so may the children have.
        """
        now = time.monotonic()
        if now - self._looked_at > _OWN_PAUSE_SECONDS:
            self._excused_until = now
        self._looked_at = now
        ended = {}
        for seat in self._seats:
            if seat.process is None or seat.process.pid is None or seat.is_ended:
                continue
            stuck_seconds = now - max(seat.pulse.well_at(), self._excused_until)
            mute_seconds = now - max(seat.pulse.said_at(), self._excused_until)
            if stuck_seconds > patience_seconds or mute_seconds > _BEAT_PATIENCE_SECONDS:
                seconds = round(max(stuck_seconds, mute_seconds))
                logs.get().error(
                    "a receiving process is stuck, it is ended",
                    pid=seat.process.pid,
                    seconds=seconds,
                )
                seat.process.kill()
                seat.is_ended = True
                ended[seat.process.pid] = seconds
        return ended

    def reload(self) -> None:
        """Have every child read the settings again."""
        self._signal(signal.SIGHUP)

    def stop(self) -> None:
        """Close the port, let every child finish, then make sure that none is left."""
        self._listening.shut()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for seat in self._seats:
            if seat.process is None:
                continue
            seat.process.join(max(0.0, deadline - time.monotonic()))
            if seat.process.is_alive():
                logs.get().error("a receiving process did not stop", pid=seat.process.pid)
                seat.process.kill()
                seat.process.join()
            seat.process = None

    def _is_dead(self, seat: _Seat) -> bool:
        """Notice a death and say when the seat is filled again: at once, then later and later."""
        if seat.process is None or seat.process.is_alive():
            return False
        lived = time.monotonic() - seat.started_at
        seat.quick_deaths = seat.quick_deaths + 1 if lived < _QUICK_DEATH_SECONDS else 0
        pause = min(0.1 * 2**seat.quick_deaths, _LONGEST_PAUSE_SECONDS) if seat.quick_deaths else 0
        seat.start_again_at = time.monotonic() + pause
        logs.get().error(
            "a receiving process died",
            pid=seat.process.pid,
            exit_code=seat.process.exitcode,
            starts_again_in_seconds=round(pause, 1),
        )
        if not seat.is_ended and seat.process.pid is not None:
            death = Death(seat.process.pid, seat.process.exitcode, time.monotonic())
            self.deaths = [*self.deaths[1 - _MOST_DEATHS :], death]
        seat.process.close()
        seat.process = None
        self._counted.wipe(seat.number)
        return True

    def _signal(self, number: int) -> None:
        for seat in self._seats:
            if seat.process is not None and seat.process.is_alive() and seat.process.pid:
                os.kill(seat.process.pid, number)
