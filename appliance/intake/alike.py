"""Whether what came is what is kept, or what is in quarantine, perhaps in other bytes."""

from __future__ import annotations

from pathlib import Path

from appliance.dicom import part10
from appliance.dicom.canonical import content_digest
from appliance.dicom.header import opened
from appliance.disk.studies import dataset_digest
from appliance.errors import CannotUnderstand

_MOST_REMEMBERED = 1000


class Alike:
    """Compares, and remembers: so that it is asked before a transaction, and again in it."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, str], bool] = {}

    def is_same(self, kept: Path, kept_syntax: str, came: Path, syntax: str, digest: str) -> bool:
        """Say whether two files hold the same content; `digest` is that of the second's data set.

        False when one of them is not there or cannot be read: then nobody can know.
        """
        key = (kept, digest)
        if key not in self._known:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            # The kept one's digest may not be in its row yet.
            self._known[key] = holds_bytes(kept, digest) or _is_same(
                kept, kept_syntax, came, syntax
            )
        return self._known[key]


def holds_bytes(file: Path, dataset_sha256: str) -> bool:
    """Say whether a file holds this very data set now: it is read to its end."""
    try:
        return dataset_digest(file) == dataset_sha256
    except (OSError, CannotUnderstand):
        return False


def holds(file: Path, came: Path, syntax: str, dataset_sha256: str) -> bool:
    """Say whether a file holds the content of what came now, perhaps in other bytes.

    Both are read; nothing is remembered, since what came may be dropped then.
    """
    if holds_bytes(file, dataset_sha256):
        return True
    try:
        kept_syntax = part10.read_meta(file)[0].transfer_syntax_uid
    except (OSError, CannotUnderstand):
        return False
    return _is_same(file, kept_syntax, came, syntax)


def _is_same(kept: Path, kept_syntax: str, came: Path, syntax: str) -> bool:
    try:
        return _digest(kept, kept_syntax) == _digest(came, syntax)
    except (OSError, CannotUnderstand):
        return False


def _digest(path: Path, transfer_syntax_uid: str) -> str:
    with opened(path) as view:
        start = part10.read_meta(view)[1]
        with view[start:] as data_set:
            return content_digest(data_set, transfer_syntax_uid)
