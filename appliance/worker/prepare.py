"""Make a job's folder for an attempt: INPUT, an empty OUTPUT, and info.json for the stream.

INPUT is hard links, for runs that see them only through a read-only mount; or a
private copy, reflinked where the file system can, for the others.  What an earlier
attempt left is removed first.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.disk.layout import JobFolder, Layout
from appliance.disk.sync import plain_errors
from appliance.disk.trees import remove_tree
from appliance.index.catalog import Instance
from appliance.index.jobs import Job
from appliance.streams.catalog import Stream

_FICLONE = 0x40049409  # ioctl(2): share the blocks of another file, on Btrfs and XFS


def prepare(
    layout: Layout,
    job: Job,
    stream: Stream,
    instances: Sequence[Instance],
    *,
    copy: bool,
    told: Mapping[str, Any],
) -> JobFolder:
    """Make the folder of an attempt; NoSpace and DiskError.

    `instances` are in the order in which the files are numbered; `told` is what info.json
    says beside what the job and its stream say.
    """
    folder = layout.job(job.id)
    with plain_errors("The job's folder could not be made"):
        folder.path.mkdir(mode=0o700, exist_ok=True)
    # info.json first: by it a run that outlived its lease sees that the folder is not its own.
    for old in (folder.info, *folder.of_a_run, folder.output, folder.proc, folder.record):
        remove_tree(old)
    with plain_errors("The job's input could not be made"):
        folder.output.mkdir(mode=0o700)
        folder.input.mkdir()
        folder.input.chmod(0o755)  # a container's nobody looks in; the folders above are closed
        width = max(5, len(str(len(instances))))
        for number, instance in enumerate(instances, 1):
            target = folder.input / f"{number:0{width}}.dcm"
            put = _copy if copy else _link
            put(layout.root / instance.path, target)
        _write(folder.info, {**info_of(job, stream, instances), **told})
    return folder


def info_of(job: Job, stream: Stream, instances: Sequence[Instance]) -> dict[str, Any]:
    """Say what the stream is told of its job: the content of /job/info.json."""
    return {
        "job": job.id,
        "attempt": job.attempt,
        "called_ae_title": job.ae_title,
        "calling_ae_title": job.calling_ae_title,
        "address": job.address,
        "received_at": job.last_instance_at.isoformat(),
        "study_uid": job.study_uid,
        "series_uids": sorted({instance.series_uid for instance in instances}),
        "result_seed": job.result_seed,
        "stream": stream.good_info.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


def _link(source: Path, target: Path) -> None:
    os.link(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copy a stored file, sharing its blocks where the file system can."""
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
        os.fchmod(new.fileno(), 0o644)


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    remove_tree(part)
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.chmod(0o644)
    part.replace(path)
