"""A number over time as one SVG path, made on the server.  Pure.

What came and went is summed into bars, what stands at a level is a line; where the
node did not run there is a gap.  `count` is how many stretches of time are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.index.samples import Sample

WIDTH, HEIGHT = 336, 56
_LEAST = 1.0  # a bar of something, however little, is seen


@dataclass(frozen=True, slots=True)
class Sparkline:
    """The path, and the highest value that it shows; "" and None when there is none."""

    path: str
    most: float | None


def bars(samples: Sequence[Sample], since: datetime, until: datetime, count: int) -> Sparkline:
    """Draw what came and went: the sum of each stretch of time."""
    sums = [sum(found) if found else None for found in _spread(samples, since, until, count)]
    most = _most(sums)
    step, drawn = WIDTH / count, ""
    for number, value in enumerate(sums):
        if most and value:
            top = HEIGHT - max(HEIGHT * value / most, _LEAST)
            drawn += f"M{(number + 0.5) * step:.1f} {HEIGHT}V{top:.1f}"
    return Sparkline(drawn, most)


def line(samples: Sequence[Sample], since: datetime, until: datetime, count: int) -> Sparkline:
    """Draw what stands at a level: the most of each stretch of time, from zero up.

    The mean would hide what is said beside it: the last value may be above all means.
    """
    levels = [max(found, default=None) for found in _spread(samples, since, until, count)]
    most = _most(levels)
    step, drawn, is_on = WIDTH / count, "", False
    for number, value in enumerate(levels):
        if value is None:
            is_on = False
            continue
        height = HEIGHT * value / most if most else 0.0
        x, y = number * step, min(HEIGHT - height, HEIGHT - 1)
        drawn += f"{'L' if is_on else 'M'}{x:.1f} {max(y, 1):.1f}H{x + step:.1f}"
        is_on = True
    return Sparkline(drawn, most)


def _spread(
    samples: Sequence[Sample], since: datetime, until: datetime, count: int
) -> list[list[float]]:
    """Put each sample where it belongs in time."""
    places: list[list[float]] = [[] for _ in range(count)]
    span = (until - since).total_seconds()
    for one in samples:
        place = int((one.at - since).total_seconds() / span * count)
        if 0 <= place <= count:  # one of this very moment belongs to the last
            places[min(place, count - 1)].append(one.value)
    return places


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
