"""Read what lies below studies/ and jobs/, to compare it with the index or to make one of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.dicom import part10
from appliance.dicom.names import IMPLEMENTATION_CLASS_UID
from appliance.disk.layout import Layout, older_names
from appliance.disk.studies import dataset_digest
from appliance.errors import InstanceRefused
from appliance.health.job_folders import job_ids
from appliance.index.rebuild import StoredFile

Complain = Callable[[Path, str], None]
Paths = Iterable[Path]


def stored_paths(layout: Layout) -> Iterator[Path]:
    """Give every file below studies/."""
    for folder, _, names in os.walk(layout.studies):
        for name in names:
            yield Path(folder) / name


def stored_files(layout: Layout, paths: Paths, complain: Complain) -> Iterator[StoredFile]:
    """Read stored files, the oldest first; one that cannot be read is complained of."""
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        try:
            yield _read(layout, path)
        except (InstanceRefused, OSError) as error:
            complain(path, str(error))


def job_records(layout: Layout, complain: Complain) -> Iterator[dict[str, Any]]:
    """Read the record of every ended job that has one."""
    for job_id in job_ids(layout):
        file = layout.job(job_id).record
        try:
            record = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            continue  # it had not ended
        except (OSError, ValueError) as error:
            complain(file, f"it cannot be read: {error}")
            continue
        if isinstance(record, dict) and record.get("id") == job_id:
            yield record
        else:
            complain(file, "it is not the record of that job")


def _read(layout: Layout, path: Path) -> StoredFile:
    meta, header, _ = part10.read_file(path)
    facts = path.stat()
    relative = str(path.relative_to(layout.root))
    return StoredFile(
        header=header,
        path=relative,
        size_bytes=facts.st_size,
        dataset_sha256=dataset_digest(path),
        written_at=datetime.fromtimestamp(facts.st_mtime, UTC),
        called_ae_title=meta.receiving_ae_title,
        calling_ae_title=meta.sending_ae_title,
        address=part10.host_of(meta.sending_address),
        older=older_names(relative),
        # What was received names the AE title that it was sent to; ours is our word for the rest,
        # whatever AE title the node had when it wrote it.
        is_result=not meta.receiving_ae_title
        and meta.implementation_class_uid == IMPLEMENTATION_CLASS_UID,
    )


def received(layout: Layout) -> set[tuple[int, int]]:
    """Name the files that were received and have no row yet: by device and inode.

    Their names in incoming/ tell of them until the row is there.
    """
    return {found for path in layout.incoming.rglob("*") if (found := inode(path)) is not None}


def inode(path: Path) -> tuple[int, int] | None:
    """Give device and inode of a file; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
