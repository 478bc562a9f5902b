"""Adopt what a crash left in `incoming/`: that list, never the store.

Run by the receiver when it starts and when one of its workers died.  Only folders
whose process is dead are looked at (`disk.incoming`), so that it takes time in
proportion to what they hold, and others receive meanwhile.  What is whole is filed
with the reception that its File Meta tells; what is half-written goes; a job's
staging that was linked but whose attempt is over loses both names, or its row
shows that it was registered.

A `….part` with a second name in studies/ came over the direct road: it is whole, answered
or not.  A power cut may have torn it before it was answered: then both names go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from appliance import bells, logs
from appliance.dicom import part10
from appliance.dicom.header import Header, opened
from appliance.disk import incoming, quarantine
from appliance.disk.incoming import Written
from appliance.disk.layout import Layout
from appliance.disk.studies import Studies, dataset_digest
from appliance.disk.sync import plain_errors, sync_path
from appliance.errors import InstanceRefused, NotFound, StudyGoing
from appliance.index import catalog, jobs, told_associations
from appliance.index.database import Database
from appliance.index.going import check_not_going
from appliance.index.states import Ending, JobState
from appliance.intake.arrived import Arrived, Sender, path_of
from appliance.intake.filing import Filing, reception_of
from appliance.intake.take import checked_header, refusal
from appliance.intake.torn import forget_torn, is_direct, is_torn
from appliance.settings import Receiver
from appliance.streams.catalog import Streams

_NO_META = part10.FileMeta("", "", "")
_STAGING = re.compile(r"job-(\d+)-(\d+)")


def adopt(
    db: Database,
    layout: Layout,
    streams: Streams,
    now: datetime,
    rules: Callable[[], Receiver] = Receiver,
) -> int:
    """Adopt the leftovers of dead processes; how many instances were filed.

    Raises IndexUnavailable and DiskError: what is left then waits for the next call.  A
    file that cannot be read is left where it is and logged.
    """
    filing = Filing(db, layout, rules)
    adopted = 0
    with plain_errors("incoming/ cannot be looked through"):
        for folder in incoming.abandoned(layout.incoming):
            for path in incoming.files_in(folder):
                adopted += _adopt_readable(db, filing, layout, streams, path, now)
        _sweep_staged(db, layout)
    if adopted:
        logs.get().warning("instances adopted", instances=adopted)
        bells.ring(layout.run, "dispatcher")
    return adopted


def _adopt_readable(
    db: Database, filing: Filing, layout: Layout, streams: Streams, path: Path, now: datetime
) -> bool:
    """Adopt one file; one that cannot be read stays, and keeps no other from being adopted."""
    try:
        return _adopt_file(db, filing, layout, streams, path, now)
    except OSError as error:
        logs.get().error("a leftover cannot be read", file=path.name, reason=error.strerror)
        return False


def _adopt_file(
    db: Database, filing: Filing, layout: Layout, streams: Streams, path: Path, now: datetime
) -> bool:
    """File one whole file of a dead process; False when there was nothing to do."""
    size, came_at = path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime, UTC)
    meta, association_id = _NO_META, incoming.association_of(path)
    try:
        meta, start = part10.read_meta(path)
        with opened(path) as view, view[start:] as data_set:
            header = checked_header(data_set, meta)
        if is_direct(path) and is_torn(path):
            forget_torn(filing, path)
            return False
    except InstanceRefused as error:
        if is_direct(path):
            forget_torn(filing, path)
            return False
        # Its worker died before it could say so.
        sender = _sender(meta, association_id)
        quarantine.keep(layout, path, refusal(meta, sender, error, now))
        path.unlink()
        return False
    sender = _sender(meta, association_id)
    stream = streams.find(sender.called_ae_title)
    level = (stream.info.level if stream.info else "study") if stream else None
    written = Written(path, size, dataset_digest(path), sender.association_id)
    arrived = Arrived(written, header, sender, level, came_at)
    is_kept = False
    if filing.is_filed(header, sender.association_id):
        filing.finish(arrived)
    else:
        sync_path(path)  # a row outlives a power cut: so must its bytes, acknowledged or not
        _add_association(db, arrived, now)
        # Refused, it is in quarantine then.
        try:
            with suppress(InstanceRefused):
                is_kept = not filing.file(arrived, patience_seconds=0).is_held
        except StudyGoing:
            if _is_another(db, header):  # filed once that erasure has ended
                return False
            # It goes with the study that is being erased.
            filing.unname(header, path)
    path.unlink(missing_ok=True)
    return is_kept


def _add_association(db: Database, arrived: Arrived, now: datetime) -> None:
    """Note who brought it, if the process died before it did so: something may be missing."""
    if arrived.level is None or quarantine.is_try(arrived.sender.association_id):
        return
    with db.write() as connection:
        brought = reception_of(arrived)
        told_associations.add(connection, brought, now, Ending.PROCESS_DIED)


def _is_another(db: Database, header: Header) -> bool:
    """Say whether a file that carries UIDs of what is erased is another patient's or study's."""
    with db.read() as connection:
        try:
            check_not_going(connection, header.study_uid, is_question=True)
            return True
        except StudyGoing:
            of_study = catalog.claimed(connection, header.study_uid, header.series_uid).patient
    known = of_study[0].strip() if of_study else ""
    return header.patient_id.strip() not in ("", known) and known != ""


def _sender(meta: part10.FileMeta, association_id: str) -> Sender:
    return Sender(
        called_ae_title=meta.receiving_ae_title,
        calling_ae_title=meta.sending_ae_title,
        address=part10.host_of(meta.sending_address),
        association_id=association_id,
        local=meta.receiving_address,
    )


def _sweep_staged(db: Database, layout: Layout) -> None:
    """Remove the staging of attempts that are over, and names that they linked without a row."""
    studies = Studies(layout)
    for folder in sorted(layout.incoming.glob("job-*")):
        named = _STAGING.fullmatch(folder.name)
        if named is None or _is_current(db, int(named[1]), int(named[2])):
            continue
        with suppress(FileNotFoundError):  # its worker sweeps too
            for path in sorted(folder.iterdir()):
                with suppress(FileNotFoundError):
                    _forget_staged(db, studies, path)
        with suppress(OSError):
            folder.rmdir()


def _is_current(db: Database, job_id: int, attempt: int) -> bool:
    with db.read() as connection:
        try:
            job = jobs.get(connection, job_id)
        except NotFound:
            return False
    return job.state == JobState.RUNNING and job.attempt == attempt


def _forget_staged(db: Database, studies: Studies, path: Path) -> None:
    if path.stat().st_nlink > 1:
        with suppress(InstanceRefused):
            header = part10.read_file(path)[1]
            with db.write() as connection:
                db.lock(connection, f"instance {header.sop_instance_uid}")
                kept = catalog.find_instance(connection, header.sop_instance_uid)
                if kept is None or kept.path != path_of(header):
                    studies.unlink_if_same(path_of(header), path)
    path.unlink()
