"""What comes of a case: one row for each peer, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """Ours beside one peer's; a ratio above 1 always means that ours is better.

    `ours` and `theirs` are medians in `unit`; `ratios` are of the rounds, in which both ran
    one after the other.  `cpu_ratio` is that of the receivers' CPU seconds, of the senders'
    where those are compared; `rss_mb` the highest resident memory of our largest process
    there.  `more` holds what only this case has.
    """

    case: str
    peer: str
    unit: str
    ours: float
    theirs: float
    ratios: Sequence[float]
    cpu_ratio: float | None
    rss_mb: float
    peer_rss_mb: float
    command: str
    sender: str
    our_command: str
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return median(self.ratios)

    @property
    def facts(self) -> dict[str, Any]:
        """Everything, as JSON knows it."""
        return {
            "case": self.case,
            "peer": self.peer,
            "ours": _rounded(self.ours),
            "theirs": _rounded(self.theirs),
            "ratio": _rounded(self.ratio),
            "cpu_ratio": None if self.cpu_ratio is None else _rounded(self.cpu_ratio),
            "rss_mb": _rounded(self.rss_mb),
            "unit": self.unit,
            "spread": [_rounded(min(self.ratios)), _rounded(max(self.ratios))],
            "rounds": len(self.ratios),
            "peer_rss_mb": _rounded(self.peer_rss_mb),
            "command": self.command,
            "our_command": self.our_command,
            "sender": self.sender,
            **self.more,
        }


HEAD = ("case", "peer", "unit", "ours", "theirs", "ratio", "spread", "rounds",
        "CPU ratio", "RSS MB, ours : theirs")  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """Write a row down, in the order of HEAD."""
    cpu = "-" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}"
    spread = f"{min(row.ratios):.2f}-{max(row.ratios):.2f}"
    memory = f"{row.rss_mb:.0f} : {row.peer_rss_mb:.0f}"
    return (row.case, row.peer, row.unit, _short(row.ours), _short(row.theirs),
            f"{row.ratio:.2f}", spread, str(len(row.ratios)), cpu, memory)  # fmt: skip


def text(rows: Sequence[Row]) -> str:
    """Write rows down for a terminal, each with what was compared."""
    lines = []
    for row in rows:
        words = dict(zip(HEAD, cells(row), strict=True))
        lines.append(
            f"{row.case:16} {row.peer:15} {words['ours']:>7} : {words['theirs']:>7} {row.unit:9}"
            f" ratio {words['ratio']:>6} ({words['spread']}) of {words['rounds']} rounds,"
            f" CPU ratio {words['CPU ratio']}, MB {words['RSS MB, ours : theirs']}"
        )
        more = "".join(f"; {name} {value}" for name, value in row.more.items())
        lines.append(f"    {row.command}; sender: {row.sender}{more}")
    return "\n".join(lines)


def as_json(rows: Sequence[Row], **more: Any) -> str:
    """Write rows down for a program, with what holds for all of them."""
    return json.dumps({"rows": [row.facts for row in rows], **more}, indent=1)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
