"""How much is measured, and where it is written meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class NotMeasured(Exception):
    """A benchmark could not be run, or what it ran is no measurement; its text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`share` is that of the instances; `runs` is for what has no peer to take turns with."""

    folder: Path
    pairs: int = 5
    runs: int = 20
    share: float = 1.0

    def __str__(self) -> str:
        return f"{self.pairs} rounds in turn after one that is not counted"
