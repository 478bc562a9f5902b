"""How much is measured, for how long, and where it is written meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class NotMeasured(Exception):
    """A benchmark could not be run, or what it ran is no measurement; its text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`folder` is on the disk that is meant, `tmpfs` in memory.

    A case goes on for so many seconds, but for no more rounds than `pairs`; `share` is that
    of the instances.  `runs` is for what has no peer to take turns with.  `cases` and `peers`
    name those that are wanted; none named are all.
    """

    folder: Path
    tmpfs: Path
    seconds: float = 90
    pairs: int = 15
    runs: int = 20
    share: float = 1.0
    cases: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()

    def wants(self, case: str) -> bool:
        """Say whether a case is to be measured."""
        return not self.cases or case in self.cases

    def count(self, all_of_them: int) -> int:
        """Give the share of so many instances, one at least."""
        return max(round(all_of_them * self.share), 1)
