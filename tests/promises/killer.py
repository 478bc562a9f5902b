"""A killer that sends SIGKILL at random moments to processes of a node, and keeps a log of it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from tests.kit.node import Node
from tests.kit.waiting import wait_for

# Killed alike often; supervisord less, since all that it runs begins anew then.
_PROGRAMS = (
    "receiver", "receiver child", "dispatcher", "worker", "router", "housekeeper", "web",
    "gearmand",
)  # fmt: skip
_SUPERVISORD_EVERY = 20
_WHILE_STARTING = 0.25  # of the kills follow another kill, into the start of what died
_UNHEALED = 0.2  # of the kills come before everything runs again
_BACK_SECONDS = 90


@dataclass(frozen=True)
class Kill:
    """One SIGKILL: to what, and the wall clock's time."""

    program: str
    was_starting: bool
    at: float


@dataclass
class Killer:
    """Kills at random; `progress` is a number that grows while studies are worked on."""

    node: Node
    dice: random.Random
    progress: Callable[[], int]
    kills: list[Kill] = field(default_factory=list)
    _last_victim: int = 0

    def kill_all(self, count: int) -> None:
        """Kill so many processes, each program about alike often, in random order."""
        victims = [_PROGRAMS[n % len(_PROGRAMS)] for n in range(count)]
        for n in range(0, count, _SUPERVISORD_EVERY):
            victims[n] = "supervisord"
        self.dice.shuffle(victims)
        for victim in victims:
            self._kill_one(victim)
        self._wait_until_healed()

    def counts(self) -> str:
        """Tell how often each program was killed."""
        found = Counter(kill.program for kill in self.kills)
        starting = sum(kill.was_starting for kill in self.kills)
        told = ", ".join(f"{name} {n}" for name, n in sorted(found.items()))
        return f"{len(self.kills)} kills ({starting} of them at a start): {told}"

    def of(self, *programs: str) -> list[float]:
        """Give the times at which one of these was killed."""
        return [kill.at for kill in self.kills if kill.program in programs]

    def _kill_one(self, program: str) -> None:
        is_starting = bool(self.kills) and self.dice.random() < _WHILE_STARTING
        if is_starting:
            # Whoever is there after the last kill: most of its life it is still starting.
            program = self.kills[-1].program
            dead = {self._last_victim}
            wait_for(lambda: self._alive(program) - dead, f"{program} starts", _BACK_SECONDS)
            time.sleep(self.dice.uniform(0, 0.6))
        else:
            if self.dice.random() > _UNHEALED:
                self._wait_until_healed()
            time.sleep(self.dice.uniform(0, 1.0))
        self._strike(program, is_starting)

    def _strike(self, program: str, is_starting: bool) -> None:
        while True:
            found = wait_for(
                lambda: sorted(self._alive(program)), f"there is a {program}", _BACK_SECONDS
            )
            victim = self.dice.choice(found)
            try:
                psutil.Process(victim).kill()
            except psutil.NoSuchProcess:
                continue
            self._last_victim = victim
            self.kills.append(Kill(program, is_starting, time.time()))
            return

    def _alive(self, program: str) -> set[int]:
        """Give the processes of a program; the receiver's parent and its children apart."""
        name = program.split()[0]
        there = {one.pid: one for one in self.node.processes(name)}
        if name != "receiver":
            return set(there)
        children = set()
        for pid, process in there.items():
            try:
                if process.ppid() in there:
                    children.add(pid)
            except psutil.NoSuchProcess:
                continue
        return children if program == "receiver child" else set(there) - children

    def _wait_until_healed(self) -> None:
        """Wait until everything runs again; now and then until a job is made, too."""
        for program in (*_PROGRAMS, "supervisord"):
            wait_for(lambda p=program: self._alive(p), f"{program} runs again", _BACK_SECONDS)
        wait_for(self.node.is_ready, "the node is ready again", _BACK_SECONDS)
        if self.dice.random() < 0.3:
            before = self.progress()
            wait_for(lambda: self.progress() > before, "a job ends", _BACK_SECONDS)
