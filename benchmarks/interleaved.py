"""Runs in turn, A B A B …: what disturbs one disturbs its neighbour, and the ratio stays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those compared; the first of them is Brookbox."""

    name: str
    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """A run until everything was answered, and a sync of the machine's disks after it."""

    seconds: float
    sync_seconds: float

    @property
    def on_disk_seconds(self) -> float:
        """Until everything that was answered was on the disk, too."""
        return self.seconds + self.sync_seconds


def interleave(
    contenders: Sequence[Contender], pairs: int, prepare: Callable[[int], None]
) -> dict[str, list[Timing]]:
    """Run all in turn, as often as told; the first round is not counted.

    `prepare` is told the number of the round.  Each run begins with nothing left to write.
    """
    timings: dict[str, list[Timing]] = {one.name: [] for one in contenders}
    for number in range(pairs + 1):
        prepare(number)
        os.sync()
        for one in contenders:
            timing = _timed(one.run)
            if number > 0:
                timings[one.name].append(timing)
    return timings


def table(timings: dict[str, list[Timing]], count: int, size_bytes: int, *, on_disk: bool) -> str:
    """Write the figures down: medians, with the spread in brackets.

    A ratio is of the runs of one round, and over 1 where Brookbox is faster.
    """
    head = f"{'':24}{'seconds':>22}{'instances/s':>13}{'MB/s':>8}{'speed, Brookbox : this':>25}"
    head += f"{'sync after, s':>15}{'and with that sync':>25}" if on_disk else ""
    ours = next(iter(timings.values()))
    lines = [head]
    for name, theirs in timings.items():
        middle = median(one.seconds for one in theirs)
        line = f"{name:24}{_spread([one.seconds for one in theirs]):>22}"
        line += f"{count / middle:>13.0f}{size_bytes / middle / 1e6:>8.1f}"
        pairs = list(zip(ours, theirs, strict=True))
        answered = [peer.seconds / own.seconds for own, peer in pairs]
        line += f"{'-' if theirs is ours else _spread(answered):>25}"
        if on_disk:
            written = [peer.on_disk_seconds / own.on_disk_seconds for own, peer in pairs]
            line += f"{median(one.sync_seconds for one in theirs):>15.2f}"
            line += f"{'-' if theirs is ours else _spread(written):>25}"
        lines.append(line)
    return "\n".join(lines)


def _timed(run: Callable[[], None]) -> Timing:
    began = time.perf_counter()
    run()
    ended = time.perf_counter()
    os.sync()
    return Timing(ended - began, time.perf_counter() - ended)


def _spread(values: list[float]) -> str:
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"
