"""Make a job of a complete arrival, in one transaction: close the arrival, queue the job.

When something came since the arrival was judged, nothing happens.  Two
dispatchers that launch the same arrival make one job.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from appliance.amounts import count
from appliance.disk.layout import Layout
from appliance.dispatcher.accepts import accepted, in_words
from appliance.dispatcher.completeness import Verdict
from appliance.index import arrival_list, arrivals, catalog, events, job_list, jobs
from appliance.index.arrivals import OpenArrival
from appliance.index.catalog import Instance
from appliance.index.database import Connection, Database
from appliance.index.jobs import Job, NewJob
from appliance.index.states import ACTIVE, PRIORITIES
from appliance.intake.digests import filled
from appliance.streams.info import StreamInfo


@dataclass(frozen=True, slots=True)
class Launched:
    """What became of a complete arrival: a job, or a note that says why there is none."""

    digest: str
    job: Job | None = None
    note: str = ""


def launch(
    db: Database,
    root: Path,
    arrival: OpenArrival,
    verdict: Verdict,
    info: StreamInfo | None,
    on_resend: str,
    now: datetime,
) -> Launched | None:
    """Close a complete arrival and queue its job; None when something came in between.

    `info` is None when no good stream has this AE title just now: the job is
    queued all the same, since its sender was told that it is kept, and waits.
    The caller rings.
    """
    with db.read() as connection:
        received = _received(connection, arrival)
        wanted = _wanted(connection, root, arrival, info, received)
    # What the direct road kept may have none yet; computed outside the transaction.
    wanted = filled(db, Layout(root), wanted)
    digest = input_digest(wanted) if wanted else ""
    try:
        with db.write() as connection:
            launched = _settle(connection, arrival, verdict, info, on_resend, wanted, digest, now)
            # Asked once the arrival is closed, when nothing can be added to it any more.  Its
            # last time alone does not tell: what began to come earlier may be in only now.
            if _contents(_received(connection, arrival)) != _contents(received):
                raise _SomethingCame
    except _SomethingCame:
        return None
    return launched


def input_digest(instances: Sequence[Instance]) -> str:
    """Give the SHA-256 of an input list: SOP Instance UIDs and data sets, in order of UID."""
    lines = sorted(f"{one.sop_instance_uid} {one.dataset_sha256}\n" for one in instances)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def new_seed() -> str:
    """Make what the UIDs of a job's results come from: equal for all its attempts."""
    return secrets.token_hex(16)


class _SomethingCame(Exception):
    """The arrival is not what was judged any more; undoes the transaction."""


def _wanted(
    connection: Connection,
    root: Path,
    arrival: OpenArrival,
    info: StreamInfo | None,
    received: list[Instance],
) -> list[Instance]:
    if info is None or not info.accepts:
        return received
    series = {one.series_uid: one for one in catalog.series_of(connection, arrival.study_uid)}
    return accepted(received, series, info.accepts, root)


def _received(connection: Connection, arrival: OpenArrival) -> list[Instance]:
    return arrivals.received_for(
        connection, arrival.called_ae_title, arrival.study_uid, arrival.series_uid
    )


def _contents(instances: Sequence[Instance]) -> list[tuple[str, str, datetime]]:
    """Say which contents these are; a digest that was filled in since changes none."""
    return [(one.sop_instance_uid, one.path, one.received_at) for one in instances]


def _settle(
    connection: Connection,
    arrival: OpenArrival,
    verdict: Verdict,
    info: StreamInfo | None,
    on_resend: str,
    wanted: Sequence[Instance],
    digest: str,
    now: datetime,
) -> Launched:
    note, job_id = "", None
    conflicts = arrival_list.conflicts_of(connection, arrival.id)
    if conflicts:
        verdict = replace(verdict, reason=f"{verdict.reason} {_other(conflicts)}", incomplete=True)
    twin = job_list.same_input(connection, arrival.called_ae_title, arrival.study_uid, digest)
    if not wanted:
        note = _why_nothing(len(_received(connection, arrival)), info, conflicts)
    elif twin is not None and (
        twin.state in ACTIVE or (on_resend == "show" and job_list.has_its_results(connection, twin))
    ):
        job_id, note = twin.id, _identical(twin, conflicts)
        if not verdict.incomplete and jobs.came_whole(connection, twin.id, arrival.id):
            note = f"It is identical to job {twin.id}, which is known to be complete by it."
    else:
        job_id = jobs.create(
            connection, _new_job(connection, arrival, verdict, info, wanted, digest), now
        )
    is_closed = arrivals.close_arrival(
        connection,
        arrival,
        now,
        reason=verdict.reason,
        incomplete=verdict.incomplete,
        digest=digest,
        note=note,
        job_id=job_id,
    )
    if not is_closed:
        raise _SomethingCame
    _tell(connection, arrival, verdict.reason, note, job_id, len(wanted), now)
    made = job_id is not None and not note
    return Launched(digest, jobs.get(connection, job_id) if job_id and made else None, note)


def _new_job(
    connection: Connection,
    arrival: OpenArrival,
    verdict: Verdict,
    info: StreamInfo | None,
    wanted: Sequence[Instance],
    digest: str,
) -> NewJob:
    senders = arrivals.senders_of(
        connection, arrival.called_ae_title, arrival.study_uid, arrival.series_uid
    )
    return NewJob(
        ae_title=arrival.called_ae_title,
        study_uid=arrival.study_uid,
        series_uid=arrival.series_uid,
        priority=PRIORITIES[info.priority] if info else 0,
        calling_ae_title=senders[-1].calling_ae_title if senders else "",
        address=senders[-1].address if senders else "",
        input_digest=digest,
        inputs=tuple(one.sop_instance_uid for one in wanted),
        result_seed=new_seed(),
        incomplete=verdict.incomplete,
        first_instance_at=arrival.opened_at,
        last_instance_at=arrival.last_instance_at,
        stream_name=info.name if info else "",
        stream_version=info.version if info else "",
    )


def _why_nothing(received: int, info: StreamInfo | None, conflicts: int) -> str:
    if received == 0 and conflicts:
        return "Nothing of it is in the store; nothing done."
    if received == 0 or info is None:
        # What was received stays while its arrival is open: retention waits for it.
        return "Nothing came but results of this node, which are no input of a job; nothing done."
    return (
        f"None of its {received} instances is what the stream takes "
        f"({in_words(info.accepts)}); nothing done."
    )


def _identical(twin: Job, conflicts: int) -> str:
    what = "What is kept" if conflicts else "It"
    state = f", which is {twin.state}" if twin.state in ACTIVE else ""
    return f"{what} is identical to job {twin.id}{state}; nothing done."


def _other(conflicts: int) -> str:
    """Say what of an arrival is no input of any job."""
    return (
        f"{count(conflicts, 'instance')} of it came with other content than what is kept under "
        "the same SOP Instance UID: the first stays, what came now is in quarantine."
    )


def _tell(
    connection: Connection,
    arrival: OpenArrival,
    reason: str,
    note: str,
    job_id: int | None,
    instances: int,
    now: datetime,
) -> None:
    events.append(
        connection,
        "arrival closed",
        f"{reason} {note or f'Job {job_id} was queued.'}",
        now,
        study_uid=arrival.study_uid,
        job_id=job_id,
        arrival=arrival.id,
        called_ae_title=arrival.called_ae_title,
        instances=instances,
    )
