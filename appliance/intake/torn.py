"""What a power cut tore: linked over the direct road, not yet durable, never acknowledged.

A file system may keep the name and the length of a file whose bytes it lost.
"""

from __future__ import annotations

import os
from pathlib import Path

from appliance import logs
from appliance.dicom import part10
from appliance.dicom.header import Header, opened
from appliance.dicom.walker import header_of_start, read_start
from appliance.disk.commit import JOURNALLED, file_system_of
from appliance.disk.incoming import PART
from appliance.errors import CannotUnderstand
from appliance.intake.filing import Filing


def is_direct(path: Path) -> bool:
    """Say whether a leftover came over the direct road and was not made whole by its name."""
    return path.name.endswith(PART)


def is_torn(path: Path) -> bool:
    """Say whether bytes of a file are missing that were written: it has a hole (lseek(2)).

    Only asked of file systems that make no holes themselves.
    """
    if file_system_of(path) not in JOURNALLED:
        return False
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return size > 0 and os.lseek(file.fileno(), 0, os.SEEK_HOLE) < size


def forget_torn(filing: Filing, path: Path) -> None:
    """Take both names from a torn file, unless a row speaks of it.  IndexUnavailable.

    Without its UIDs nobody can tell its other name: that stays, without a row, until the
    housekeeper removes it or its instance comes again.
    """
    header = _beginning_of(path)
    if header is not None:
        filing.unname(header, path)
    logs.get().warning("a torn file is forgotten", file=path.name, keeps_other_name=header is None)
    path.unlink(missing_ok=True)


def _beginning_of(path: Path) -> Header | None:
    """Read the header of a data set whose end is missing; None when it is missing too."""
    try:
        with opened(path) as view:
            meta, start = part10.read_meta(view)
            with view[start:] as data_set:
                found = read_start(data_set, meta.transfer_syntax_uid, False)
    except (CannotUnderstand, OSError):
        return None
    if found is None:
        return None
    return header_of_start(found, found.end, meta.transfer_syntax_uid)
