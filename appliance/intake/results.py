"""Results of streams: staged, checked as received data, registered with the job's end.

Files wait in `incoming/job-<id>-<attempt>/` until one transaction finishes the
attempt and registers all of them; it is refused when another attempt is the current
one.  Called by the worker alone; what a killed worker leaves there goes with
`sweep_staged`, or with adoption when it was linked already.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from appliance.dicom import part10
from appliance.dicom.header import Header, opened
from appliance.disk import quarantine
from appliance.disk.incoming import write_synced
from appliance.disk.layout import Layout
from appliance.disk.studies import Studies
from appliance.disk.sync import plain_errors
from appliance.errors import DoesNotMatch, LeaseLost
from appliance.ids import new_id
from appliance.index import attempts, catalog
from appliance.index.database import Connection, Database
from appliance.index.jobs import Job
from appliance.intake.arrived import path_of


@dataclass(frozen=True, slots=True)
class StagedResult:
    """One checked result in staging; `name` is the stream's name for it, `path` its place to be."""

    header: Header
    file: Path
    path: str
    size_bytes: int
    dataset_sha256: str
    name: str


def stage(
    layout: Layout,
    job: Job,
    name: str,
    source: BinaryIO,
    *,
    node_ae_title: str,
    expected_study: str | None = None,
    expected_patient: str | None = None,
) -> StagedResult:
    """Copy one output into staging, synced, under the node's own File Meta.

    `source` is an open Part 10 file or bare data set; `name` only describes it.  A
    study or Patient ID that is not None must be the result's.  Raises InstanceRefused
    when it is no good, and then leaves nothing; NoSpace and DiskError.
    """
    folder = _staging(layout, job)
    # A process that outlived its run may still cut the file short under our feet,
    # which would end us through a mapping of it: what is read is a copy of our own.
    copy, file = folder / f"{new_id()}.part", folder / f"{new_id()}.dcm"
    with plain_errors("A result could not be staged"):
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            with copy.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            return _checked(copy, file, name, node_ae_title, expected_study, expected_patient)
        finally:
            copy.unlink(missing_ok=True)


def taken(db: Database, job: Job, staged: Sequence[StagedResult]) -> list[StagedResult]:
    """List results whose SOP Instance UID another instance has: they may not be registered."""
    with db.read() as connection:
        kept = catalog.find_instances(connection, [one.header.sop_instance_uid for one in staged])
    others = {instance.sop_instance_uid for instance in kept if instance.made_by_job != job.id}
    return [one for one in staged if one.header.sop_instance_uid in others]


def register(
    db: Database,
    layout: Layout,
    job: Job,
    staged: Sequence[StagedResult],
    end: attempts.Finish,
    now: datetime,
) -> None:
    """Finish the attempt and register its results, in one transaction.

    Raises LeaseLost when another attempt is the current one (nothing new stays behind),
    DoesNotMatch when a SOP Instance UID is another instance's (`taken` says which, the
    staging stays), IndexUnavailable and DiskError (the same call may be made again).
    """
    studies = Studies(layout)
    # In one order everywhere, so that two transactions never wait for each other.
    ordered = sorted(staged, key=lambda one: one.header.sop_instance_uid)
    try:
        with db.write() as connection:
            attempts.finish(connection, job, end, now)
            new = [one for one in ordered if _add(db, connection, job, one, now)]
            _link_all(layout, studies, new, now)
    except LeaseLost:
        # Not what a call before this one has linked, whose commit failed: that is adoption's.
        sweep_staged(layout, job.id, job.attempt + 1)
        raise
    _remove(_staging(layout, job))


def sweep_staged(layout: Layout, job_id: int, below_attempt: int | None = None) -> None:
    """Remove what older attempts of a job staged, or all attempts when none is named.

    A file that was linked into studies/ already stays for adoption, which asks the
    index whether it was registered.
    """
    for folder in layout.incoming.glob(f"job-{job_id}-*"):
        attempt = folder.name.rsplit("-", 1)[1]
        if below_attempt is None or (attempt.isdigit() and int(attempt) < below_attempt):
            for path in list(folder.iterdir()):
                with suppress(FileNotFoundError):
                    if path.stat().st_nlink < 2:
                        path.unlink()
            with suppress(OSError):
                folder.rmdir()


def _staging(layout: Layout, job: Job) -> Path:
    return layout.incoming / f"job-{job.id}-{job.attempt}"


def _checked(
    copy: Path,
    file: Path,
    name: str,
    node_ae_title: str,
    expected_study: str | None,
    expected_patient: str | None,
) -> StagedResult:
    meta, header, start = part10.read_file(copy)
    for what, wanted, found in (
        ("Study Instance UID (0020,000D)", expected_study, header.study_uid),
        ("Patient ID (0010,0020)", expected_patient, header.patient_id),
    ):
        if wanted is not None and wanted != found:
            raise DoesNotMatch(
                f"{what} is not that of the input.",
                remedy='keep it, or say "changes_patient": true in info.json',
            )
    head = part10.encode(
        part10.FileMeta(
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=meta.transfer_syntax_uid,
            source_ae_title=node_ae_title,
        )
    )
    with opened(copy) as view, view[start:] as data_set:
        size = len(head) + len(data_set)
        digest = ""
        try:
            digest = write_synced(file, head, data_set)
        finally:
            if not digest:
                file.unlink(missing_ok=True)
    return StagedResult(header, file, path_of(header), size, digest, name)


def _add(db: Database, connection: Connection, job: Job, one: StagedResult, now: datetime) -> bool:
    """Insert a result's row; False when an earlier attempt of the job registered it."""
    db.lock(connection, f"instance {one.header.sop_instance_uid}")
    if catalog.add_instance(
        connection,
        one.header,
        path=one.path,
        size_bytes=one.size_bytes,
        dataset_sha256=one.dataset_sha256,
        now=now,
        made_by_job=job.id,
    ):
        return True
    kept = catalog.find_instance(connection, one.header.sop_instance_uid)
    if kept is not None and kept.made_by_job == job.id:
        return False
    raise DoesNotMatch(
        f"{one.name} has the SOP Instance UID of an instance that is kept already.",
        remedy="have the stream give each result a UID of its own, as brookbox_results.py does",
    )


def _link_all(layout: Layout, studies: Studies, new: Iterable[StagedResult], now: datetime) -> None:
    places: dict[Path, str] = {}
    for one in new:
        if not studies.link(one.file, one.path) and not studies.holds(
            one.path, one.file, one.dataset_sha256
        ):
            aside = quarantine.describe(layout, _leftover(one, now))
            studies.replace_unregistered(one.path, one.file, aside)
        places[studies.path(one.path).parent] = one.path
    for path in places.values():
        studies.sync(path)


def _leftover(one: StagedResult, now: datetime) -> quarantine.Entry:
    return quarantine.Entry(
        id="",
        reason="It stood under a result's name, but was never registered.",
        remedy="remove it, once the job's results have been looked at",
        status=0x0000,
        called_ae_title="",
        calling_ae_title="",
        address="",
        association_id="",
        sop_class_uid=one.header.sop_class_uid,
        sop_instance_uid=one.header.sop_instance_uid,
        transfer_syntax_uid=one.header.transfer_syntax_uid,
        received_at=now,
        kind=quarantine.Kind.LEFTOVER,
    )


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
