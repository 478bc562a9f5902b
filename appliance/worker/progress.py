"""What a run says of itself in small files: progress.json while it goes on, proc.json at its end.

The run may be hostile: no link is followed, nothing but a small regular file is
read, and what it says is cut to one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.disk.layout import JobFolder
from appliance.index.states import OUTCOME_STATES

_LARGEST_FILE = 256 * 1024
_LONGEST_SENTENCE = 1000
_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; each part is None or "" when the run does not say."""

    done: int | None
    of: int | None
    step: str


@dataclass(frozen=True, slots=True)
class Said:
    """The first element of proc.json: `outcome` is success, partial, failed, or "".

    `doubt` is a sentence when there is a proc.json that cannot be understood.
    """

    outcome: str = ""
    message: str = ""
    doubt: str = ""


def read_progress(folder: JobFolder) -> Progress | None:
    """Read OUTPUT/progress.json; None when there is none that can be read."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(read_small(folder.output, "progress.json") or b"null")
        if isinstance(found, dict):
            return Progress(
                _count(found.get("done")), _count(found.get("of")), one_line(found.get("step"))
            )
    return None


def read_proc(folder: JobFolder) -> Said:
    """Read proc.json from OUTPUT or from beside it; only its first element counts."""
    raw = read_small(folder.output, "proc.json")
    if raw is None:
        raw = read_small(folder.path, folder.proc.name)
    if raw is None:
        return Said()
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return Said(doubt="Its proc.json is no JSON, so its exit code counts.")
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict):
        return Said(doubt="Its proc.json is no list of objects, so its exit code counts.")
    outcome, message = one_line(first.get("success")), one_line(first.get("message"))
    if outcome and outcome not in OUTCOME_STATES:
        doubt = "Its proc.json says neither success, partial nor failed, so its exit code counts."
        return Said("", message, doubt)
    return Said(outcome, message)


def read_small(folder: Path, name: str) -> bytes | None:
    """Read a small regular file of a folder that a stream writes in; None when there is none."""
    with contextlib.suppress(OSError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        place = os.open(folder, flags | os.O_DIRECTORY)
        try:
            # O_NONBLOCK: opening a FIFO would wait for a writer for ever.
            file = os.open(name, flags | os.O_NONBLOCK, dir_fd=place)
        finally:
            os.close(place)
        with os.fdopen(file, "rb") as opened:
            if stat.S_ISREG(os.fstat(file).st_mode):
                raw = opened.read(_LARGEST_FILE + 1)
                return raw if len(raw) <= _LARGEST_FILE else None
    return None


def one_line(text: Any) -> str:
    """Make what a stream says fit for a page: one line, of bounded length, nothing unprintable."""
    if not isinstance(text, str):
        return ""
    plain = "".join(c if c.isprintable() else " " for c in text[: 4 * _LONGEST_SENTENCE])
    return " ".join(plain.split())[:_LONGEST_SENTENCE]


def _count(number: Any) -> int | None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return int(number) if 0 <= number <= _LARGEST_NUMBER else None
