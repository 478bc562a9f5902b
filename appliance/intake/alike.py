"""Whether what came is what is kept, perhaps in other bytes."""

from __future__ import annotations

from pathlib import Path

from appliance.dicom import part10
from appliance.dicom.canonical import content_digest
from appliance.dicom.header import opened
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
            self._known[key] = _is_same(kept, kept_syntax, came, syntax)
        return self._known[key]


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
