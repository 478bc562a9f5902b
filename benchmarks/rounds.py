"""Runs in turn, ours, theirs, ours, theirs …: what disturbs one disturbs its neighbour.

A ratio is of two runs of one round, and the median of the rounds is what counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.plan import Plan
from benchmarks.rows import Row

_FEWEST_ROUNDS = 2
_PATIENCE_SECONDS = 38.0  # by which even one round must do
# One that takes so many times as long as the first runs in each third round only, after them.
_SLOW, _SLOW_ROUNDS = 4, 3

Turns = dict[str, dict[int, "Turn"]]


@dataclass(frozen=True, slots=True)
class Figure:
    """What one run showed; `value` is a rate, or a time, as its case says."""

    value: float
    more: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One run; `cpu_seconds` and `peak_mb` are of the processes that are compared."""

    figure: Figure
    cpu_seconds: float
    peak_mb: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Side:
    """One of those compared: `run` runs it once, told whether that run only warms it."""

    name: str
    command: str
    sender: str
    run: Callable[[bool], Turn]


def interleave(case: str, sides: Sequence[Side], plan: Plan) -> Turns:
    """Let all run in turn as long as there is time; by name and number of the round.

    The first of them is the one that all others are compared with.  One round before is not
    counted: caches fill, code is loaded.
    """
    began = time.monotonic()
    for side in sides:
        side.run(True)
    turns: Turns = {side.name: {} for side in sides}
    number, longest = 0, 0.0
    while number < plan.pairs:
        round_began = time.monotonic()
        would_take = round_began - began + longest
        if number >= _FEWEST_ROUNDS and would_take > plan.seconds:
            break
        if number >= 1 and would_take > max(plan.seconds, _PATIENCE_SECONDS):
            break
        for side in sides:
            if _is_due(number, turns[side.name], turns[sides[0].name]):
                turns[side.name][number] = side.run(False)
        longest = max(longest, time.monotonic() - round_began)
        number += 1
    seconds = time.monotonic() - began
    print(f"{case}: {number} rounds in {seconds:.0f} s", file=sys.stderr, flush=True)
    return turns


def compare(
    case: str, unit: str, sides: Sequence[Side], turns: Turns, *, less_is_better: bool = False
) -> list[Row]:
    """Compare the first side with each of the others."""
    own = sides[0]
    made = []
    for peer in sides[1:]:
        both = [(turns[own.name][number], turn) for number, turn in turns[peer.name].items()]
        values = [(ours.figure.value, theirs.figure.value) for ours, theirs in both]
        ours_cpu = sum(ours.cpu_seconds for ours, _ in both)
        theirs_cpu = sum(theirs.cpu_seconds for _, theirs in both)
        row = Row(
            case=case,
            peer=peer.name,
            unit=unit,
            ours=median(ours for ours, _ in values),
            theirs=median(theirs for _, theirs in values),
            ratios=[b / a if less_is_better else a / b for a, b in values],
            cpu_ratio=theirs_cpu / ours_cpu if ours_cpu else None,
            rss_mb=max(ours.peak_mb for ours, _ in both),
            peer_rss_mb=max(theirs.peak_mb for _, theirs in both),
            command=peer.command,
            our_command=own.command,
            sender=peer.sender,
            more={
                **_medians("ours", [ours.figure for ours, _ in both]),
                **_medians("theirs", [theirs.figure for _, theirs in both]),
            },
        )
        made.append(row)
    return made


def _is_due(number: int, so_far: dict[int, Turn], first: dict[int, Turn]) -> bool:
    if number < _FEWEST_ROUNDS or number % _SLOW_ROUNDS == 0:
        return True
    return so_far[0].seconds < _SLOW * first[0].seconds


def _medians(whose: str, figures: Sequence[Figure]) -> dict[str, float]:
    names = figures[0].more
    return {
        f"{whose}_{name}": float(f"{median(one.more[name] for one in figures):.4g}")
        for name in names
    }
