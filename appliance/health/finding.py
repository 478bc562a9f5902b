"""One thing that was looked at: well, doubtful or wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing; `remedy` says what to type or do, "" when all is well."""

    level: Level
    about: str
    sentence: str
    remedy: str = ""


def ok(about: str, sentence: str) -> Finding:
    """Say that it is well."""
    return Finding("ok", about, sentence)


def warn(about: str, sentence: str, remedy: str) -> Finding:
    """Say that it works, but that somebody should look at it."""
    return Finding("warn", about, sentence, remedy)


def wrong(about: str, sentence: str, remedy: str) -> Finding:
    """Say that it does not work."""
    return Finding("wrong", about, sentence, remedy)


def is_well(findings: Iterable[Finding]) -> bool:
    """Say whether nothing is wrong; what is doubtful passes."""
    return all(finding.level != "wrong" for finding in findings)
