"""The invariants I1 to I8: what must hold of a node whatever was done to it.

`check` reads the node's folder, its index, what senders were told (from the
senders' own logs, not from our index) and what a PACS holds, and gives every
violation as a sentence that begins with the invariant's number.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pydicom
import sqlalchemy as sa

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.index import schema as t
from appliance.index.database import Database
from tests.faults.measures import Outside, Usage, usage

SEEDED = (b"Seeded^Name", b"Seeded Name", b"P-SEEDED-1")
@dataclass(frozen=True)
class Acknowledged:
    """What one sender was told success for: the file, and the AE title it was sent to."""

    file: Path
    called_ae_title: str


@dataclass
class Evidence:
    """Everything that the checker looks at."""

    data_root: Path
    db: Database
    acknowledged: Sequence[Acknowledged] = ()
    pacs_folders: Sequence[Path] = ()
    logs: Sequence[Path] = ()
    outside_before: Outside | None = None
    processes_before: Mapping[str, Usage] | None = None
    processes: Sequence[psutil.Process] = ()
    is_quiet: bool = True  # nothing is to be done any more: every job and delivery has ended
    oldest_temp: timedelta = timedelta(minutes=10)
    longest_wait: timedelta = timedelta(seconds=60)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


def check(evidence: Evidence) -> list[str]:
    """Give every violation; an empty list is what a test wants."""
    parts = (
        acknowledged_is_kept,
        store_matches_index,
        jobs_end_once,
        nothing_runnable_lies,
        deliveries_are_told,
        nothing_outside_changed,
        no_patient_in_logs,
        resources_return,
    )
    return [f"I{number}: {said}" for number, part in enumerate(parts, 1) for said in part(evidence)]


# -- I1 --------------------------------------------------------------------------------------


def acknowledged_is_kept(evidence: Evidence) -> Iterator[str]:
    """Every instance for which a sender saw success is in the index, and its file is whole.

    What was held for a person is whole in quarantine instead; of what came or was kept
    with other content under one UID, the one is in the index and the other there.
    """
    with evidence.db.read() as connection:
        rows = {row.sop_instance_uid: row for row in connection.execute(sa.select(t.instances))}
        received = {
            (row.called_ae_title, row.sop_instance_uid)
            for row in connection.execute(sa.select(t.receptions))
        }
    for row in rows.values():
        yield from _file_is_whole(evidence.data_root, row)
    aside = _put_aside(Layout(evidence.data_root))
    for one in evidence.acknowledged:
        uid = str(pydicom.dcmread(one.file, stop_before_pixels=True, force=True).SOPInstanceUID)
        row = rows.get(uid)
        if row is not None and _is_of(one.file, row, evidence.data_root):
            pass
        elif any(_same_content(one.file, path) for path in aside.get(uid, ())):
            if row is None:
                continue  # held: nothing was received for anybody yet
        elif row is not None:
            yield f"{uid} was acknowledged with content that is neither kept nor in quarantine"
            continue
        if row is None:
            yield f"{uid} was acknowledged and is not in the index"
        elif (one.called_ae_title, uid) not in received:
            yield f"{uid} was acknowledged for {one.called_ae_title}, which has no reception of it"


def _put_aside(layout: Layout) -> dict[str, list[Path]]:
    """Map SOP Instance UIDs to what was acknowledged once and is in quarantine now."""
    found: dict[str, list[Path]] = {}
    for entry in quarantine.entries(layout):
        if entry.kind in (Kind.CONFLICT, Kind.HELD, Kind.REPLACED) and entry.status == 0x0000:
            file = quarantine.file_of(layout, entry.id)
            found.setdefault(entry.sop_instance_uid, []).append(file)
    return found


def _is_of(sent: Path, row: sa.Row, data_root: Path) -> bool:  # type: ignore[type-arg]
    """Say whether an instance's row tells of this very content; one in other bytes is read."""
    kept = data_root / row.path
    # A digest follows its row when the receiver has time for it.
    known = row.dataset_sha256 or (data_set_digest(kept) if kept.is_file() else "")
    if "coerced" in row.marks or data_set_digest(sent) == known:
        return True
    return not kept.is_file() or _same_content(sent, kept)  # I1 tells of a lost file already


def _same_content(one: Path, other: Path) -> bool:
    """Compare two files as pydicom reads them: senders and DCMTK write one content in many ways."""
    left, right = (pydicom.dcmread(path, force=True) for path in (one, other))
    for ds in (left, right):
        ds.remove_private_tags()
        ds.pop("DataSetTrailingPadding", None)
    return left == right


def _file_is_whole(data_root: Path, row: sa.Row) -> Iterator[str]:  # type: ignore[type-arg]
    path = data_root / row.path
    if not path.is_file():
        yield f"{row.sop_instance_uid} has a row and no file {row.path}"
    elif path.stat().st_size != row.size_bytes:
        yield f"{row.path} has {path.stat().st_size} bytes, its row says {row.size_bytes}"
    elif row.dataset_sha256 and data_set_digest(path) != row.dataset_sha256:
        yield f"the data set of {row.path} is not the one that its row tells of"


def data_set_digest(path: Path) -> str:
    """Give the SHA-256 of what follows the File Meta of a Part 10 file."""
    raw = path.read_bytes()
    return hashlib.sha256(raw[data_set_offset(raw) :]).hexdigest()


def data_set_offset(raw: bytes) -> int:
    """Say where the data set begins: 0 when there is no preamble (PS3.10 7.1)."""
    if raw[128:132] != b"DICM":
        return 0
    length = int.from_bytes(raw[140:144], "little")
    assert raw[132:136] == b"\x02\x00\x00\x00", "the File Meta does not begin with its length"
    return 144 + length


# -- I2 --------------------------------------------------------------------------------------


def store_matches_index(evidence: Evidence) -> Iterator[str]:
    """No file in the store lacks a row, and no temporary name is old."""
    layout = Layout(evidence.data_root)
    with evidence.db.read() as connection:
        known = set(connection.scalars(sa.select(t.instances.c.path)))
    for path in _files(layout.studies):
        name = str(path.relative_to(evidence.data_root))
        if name not in known and _age(path, evidence) >= evidence.oldest_temp:
            yield f"{name} has no row"
    for path in _files(layout.incoming):
        if _age(path, evidence) >= evidence.oldest_temp:
            yield f"{path.relative_to(evidence.data_root)} was left in incoming"


def _files(folder: Path) -> Iterator[Path]:
    for top, _, names in os.walk(folder):
        yield from (Path(top) / name for name in names)


def _age(path: Path, evidence: Evidence) -> timedelta:
    try:
        return evidence.now - datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except FileNotFoundError:
        return timedelta(0)


# -- I3 --------------------------------------------------------------------------------------


def jobs_end_once(evidence: Evidence) -> Iterator[str]:
    """Every job ends in one state, and its results are registered once, whole."""
    with evidence.db.read() as connection:
        jobs = list(connection.execute(sa.select(t.jobs)))
        made = Counter(
            connection.scalars(
                sa.select(t.instances.c.made_by_job).where(t.instances.c.made_by_job.is_not(None))
            )
        )
    ids = {job.id for job in jobs}
    for job in jobs:
        if evidence.is_quiet and job.state in ("queued", "running"):
            yield f"job {job.id} is still {job.state}: {job.wait_reason or job.reason}"
        if job.state in ("succeeded", "partial") and made[job.id] != job.result_count:
            yield f"job {job.id} says {job.result_count} results, the index has {made[job.id]}"
        if job.state in ("queued", "running", "cancelled") and made[job.id]:
            yield f"job {job.id} is {job.state} and has {made[job.id]} results registered"
        if job.state in ("failed", "cancelled") and not job.reason:
            yield f"job {job.id} is {job.state} without a reason"
    for job_id in set(made) - ids:
        yield f"results tell of job {job_id}, which there is not"


# -- I4 --------------------------------------------------------------------------------------


def nothing_runnable_lies(evidence: Evidence) -> Iterator[str]:
    """No job that could run waits long while its stream has an idle, open lane."""
    since = evidence.now - evidence.longest_wait
    with evidence.db.read() as connection:
        waiting = list(connection.execute(sa.select(t.jobs).where(t.jobs.c.state == "queued")))
        running = Counter(
            connection.scalars(sa.select(t.jobs.c.ae_title).where(t.jobs.c.state == "running"))
        )
        lanes = Counter(
            connection.scalars(
                sa.select(t.lanes.c.ae_title).where(
                    t.lanes.c.is_open, t.lanes.c.last_beat_at > since
                )
            )
        )
        arrivals = list(
            connection.execute(sa.select(t.arrivals).where(t.arrivals.c.state == "open"))
        )
    for job in waiting:
        due = max(job.created_at, job.not_before or job.created_at)
        if due < since and lanes[job.ae_title] > running[job.ae_title]:
            yield f"job {job.id} could run since {due} and nobody runs it"
    for arrival in arrivals:
        if evidence.is_quiet and arrival.last_instance_at < since:
            yield f"arrival {arrival.id} of {arrival.called_ae_title} was never closed"


# -- I5 --------------------------------------------------------------------------------------


def deliveries_are_told(evidence: Evidence) -> Iterator[str]:
    """Every delivery is done, planned, or given up with a reason; the PACS holds what is done."""
    with evidence.db.read() as connection:
        deliveries = list(connection.execute(sa.select(t.deliveries)))
        sent = list(
            connection.execute(
                sa.select(t.delivery_instances, t.deliveries.c.state.label("whole")).join(
                    t.deliveries, t.deliveries.c.id == t.delivery_instances.c.delivery_id
                )
            )
        )
        unrouted = list(
            connection.execute(
                sa.select(t.jobs.c.id).where(
                    t.jobs.c.state.in_(["succeeded", "partial", "failed"]),
                    t.jobs.c.routed_at.is_(None),
                    t.jobs.c.is_held.is_(False),
                )
            )
        )
    for delivery in deliveries:
        if evidence.is_quiet and delivery.state in ("due", "sending"):
            yield f"delivery {delivery.id} is still {delivery.state}: {delivery.message}"
        if delivery.state == "gave_up" and not delivery.message:
            yield f"delivery {delivery.id} was given up without a reason"
    for one in sent:
        if one.whole == "delivered" and one.state not in ("sent", "warning"):
            yield f"delivery {one.delivery_id} is delivered, {one.sop_instance_uid} is {one.state}"
    if evidence.is_quiet:
        yield from (f"job {row.id} ended and the router never looked at it" for row in unrouted)
    if evidence.pacs_folders:
        yield from _at_the_pacs(evidence, {r.sop_instance_uid for r in sent if r.state == "sent"})


def _at_the_pacs(evidence: Evidence, said_sent: set[str]) -> Iterator[str]:
    held: Counter[str] = Counter()
    for folder in evidence.pacs_folders:
        for path in _files(folder):
            ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            held[str(ds.get("SOPInstanceUID", path.name))] += 1
    for uid in sorted(said_sent - set(held)):
        yield f"{uid} was delivered, and the PACS does not hold it"
    yield from (f"the PACS holds {uid} {n} times" for uid, n in held.items() if n > 1)


# -- I6 --------------------------------------------------------------------------------------


def nothing_outside_changed(evidence: Evidence) -> Iterator[str]:
    """Nothing outside the data folders was made or changed."""
    if evidence.outside_before is not None:
        yield from evidence.outside_before.changes()


# -- I7 --------------------------------------------------------------------------------------


def no_patient_in_logs(evidence: Evidence) -> Iterator[str]:
    """No log and no event has a patient's name or ID; each association has its event or row."""
    layout = Layout(evidence.data_root)
    for path in [*_files(layout.logs), *evidence.logs]:
        raw = path.read_bytes()
        yield from (
            f"{path.name} has the patient's {word.decode()}" for word in SEEDED if word in raw
        )
    with evidence.db.read() as connection:
        for row in connection.execute(sa.select(t.events)):
            text = f"{row.sentence} {row.facts} {row.who}".encode()
            yield from (f"event {row.id} has {word.decode()}" for word in SEEDED if word in text)
        for row in connection.execute(sa.select(t.events.c.id, t.events.c.facts)):
            if not isinstance(json.loads(row.facts), dict):
                yield f"event {row.id} has facts that are no object"
        kinds = Counter(connection.scalars(sa.select(t.events.c.kind)))
        ended = connection.scalar(
            sa.select(sa.func.count()).where(
                t.jobs.c.state.in_(["succeeded", "partial", "failed", "cancelled"])
            )
        )
    told = sum(
        count
        for kind, count in kinds.items()
        if re.match(r"job (succeeded|partial|failed|cancelled|superseded)", kind)
    )
    if told < (ended or 0):
        yield f"{ended} jobs ended, the audit trail tells of {told}"


# -- I8 --------------------------------------------------------------------------------------


def resources_return(evidence: Evidence, seconds: float = 60) -> Iterator[str]:
    """Descriptors, threads and memory come back to what they were, and a fifth more at most."""
    if evidence.processes_before is None:
        return
    deadline = time.monotonic() + seconds
    while True:
        found = list(_grown(evidence.processes_before, usage(evidence.processes)))
        if not found or time.monotonic() > deadline:
            break
        time.sleep(1)
    yield from found


def _grown(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> Iterator[str]:
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            yield f"{name} does not run any more"
            continue
        # A few of each are pools that filled up, not a leak: Docker's client keeps 25 connections
        # (after twelve engines in a row, too), SQLAlchemy's pool 5 with three descriptors each.
        limits = (was.descriptors * 1.2 + 40, was.threads * 1.2 + 8, was.rss_bytes * 1.2 + 32e6)
        held = (now.descriptors, now.threads, now.rss_bytes)
        for what, limit, is_now, was_then in zip(
            ("descriptors", "threads", "bytes"),
            limits,
            held,
            (was.descriptors, was.threads, was.rss_bytes),
            strict=True,
        ):
            if is_now > limit:
                yield f"{name} holds {is_now} {what}, it began with {was_then}"
