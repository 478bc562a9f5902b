"""Which stream folders serve now: a note in `run/`, so that every process says the same.

Of two folders with one AE title the one that was serving already goes on, and at the
start of the node none serves.  What started later, and the command line, know the former
only from this note.  The dispatcher writes it; `brookbox up` begins without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from appliance.disk.layout import Layout

_FILE = "serving.json"


def noted(data_root: Path) -> frozenset[str]:
    """Name the folders that served when somebody last looked; none when nobody did."""
    try:
        return frozenset(json.loads((Layout(data_root).run / _FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return frozenset()


def note(data_root: Path, folders: Iterable[str]) -> None:
    """Write down which folders serve, if that has changed."""
    serving = frozenset(folders)
    if serving == noted(data_root):
        return
    file = Layout(data_root).run / _FILE
    part = file.with_name(f"{_FILE}.part")
    try:
        part.write_text(json.dumps(sorted(serving)), "utf-8")
        part.replace(file)
    except OSError as error:  # it only matters when an AE title is doubled meanwhile
        from appliance import logs  # `brookbox up` never comes here, and holds no logger

        logs.get().warning("which streams serve could not be noted", why=str(error))


def forget(data_root: Path) -> None:
    """Begin without a note, as a node that starts does."""
    (Layout(data_root).run / _FILE).unlink(missing_ok=True)
