"""Make the index again from what the files tell, into an empty, migrated one.

The caller reads the files: stored instances with their File Meta, and the records
of ended jobs.  What no file tells: deliveries, events, and receptions of
an instance for a second AE title; those come from a backup.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from appliance.dicom.header import Header
from appliance.errors import BackupError
from appliance.index import arrivals, catalog
from appliance.index import schema as t
from appliance.index.arrivals import Reception
from appliance.index.database import Database, insert_new
from appliance.index.jobs import Job
from appliance.index.states import ENDED

NOT_IN_FILES = "deliveries, events, and receptions by a second AE title"
_ROUTED = "The index was made again from the files: what was sent of it is not known."


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file below studies/; the AE titles are those of its File Meta, "" when it has none."""

    header: Header
    path: str
    size_bytes: int
    dataset_sha256: str
    written_at: datetime
    called_ae_title: str
    calling_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What the new index holds."""

    studies: int
    instances: int
    receptions: int
    jobs: int
    next_job_id: int


def rebuild(
    db: Database,
    files: Iterable[StoredFile],
    records: Iterable[Mapping[str, Any]],
    highest_job_id: int,
) -> Rebuilt:
    """Fill an empty index in one transaction; BackupError when it holds something already.

    `records` are those of ended jobs; job ids go on above `highest_job_id`.
    """
    with db.write() as connection:
        if connection.scalar(sa.select(sa.func.count()).select_from(t.instances)):
            raise BackupError(
                "the index is not empty", remedy="brookbox backup DIR, then make it empty"
            )
        jobs = [record for record in records if _add_job(connection, record)]
        makers = {str(uid): int(job["id"]) for job in jobs for uid in job.get("results", ())}
        receptions = sum(_add_file(connection, one, makers) for one in files)
        _correct_studies(connection)
        next_id = _go_on_above(connection, max([highest_job_id, *(int(j["id"]) for j in jobs)]))
        return Rebuilt(
            studies=_count(connection, t.studies),
            instances=_count(connection, t.instances),
            receptions=receptions,
            jobs=len(jobs),
            next_job_id=next_id,
        )


def _add_job(connection: sa.Connection, record: Mapping[str, Any]) -> bool:
    """Add the row of an ended job, and its inputs; False when the record is not of one."""
    values = {
        field.name: _value(field.name, record[field.name])
        for field in fields(Job)
        if field.name in record
    }
    if values.get("state") not in list(ENDED) or values.get("created_at") is None:
        return False
    if values.get("routed_at") is None:
        # The router must not send all of it once more.
        values.update(routed_at=values.get("ended_at"), routing_note=_ROUTED)
    values.update(lease_until=None, is_held=False)
    if not insert_new(connection, t.jobs, values):
        return False
    for uid in record.get("inputs", ()):
        key = {"job_id": values["id"], "sop_instance_uid": str(uid)}
        insert_new(connection, t.job_inputs, key)
    for step in record.get("steps", ()):
        times = {name: _time(step.get(name)) for name in ("started_at", "ended_at")}
        connection.execute(sa.insert(t.job_steps).values({**step, **times, "job_id": values["id"]}))
    return True


def _add_file(connection: sa.Connection, one: StoredFile, makers: Mapping[str, int]) -> bool:
    """Add an instance; True when its File Meta told of a reception."""
    job_id = makers.get(one.header.sop_instance_uid)
    is_new = catalog.add_instance(
        connection,
        one.header,
        path=one.path,
        size_bytes=one.size_bytes,
        dataset_sha256=one.dataset_sha256,
        now=one.written_at,
        made_by_job=job_id,
    )
    if not is_new or not one.called_ae_title:
        return False
    reception = Reception(
        sop_instance_uid=one.header.sop_instance_uid,
        study_uid=one.header.study_uid,
        series_uid=one.header.series_uid,
        called_ae_title=one.called_ae_title,
        calling_ae_title=one.calling_ae_title,
        address=one.address,
        association_id=f"r{uuid.uuid5(uuid.NAMESPACE_OID, one.path).hex[:31]}",
        received_at=one.written_at,
    )
    arrivals.receive(connection, reception, level=None)
    return True


def _correct_studies(connection: sa.Connection) -> None:
    """Let each study's times be those of its first and last instance."""
    i, s = t.instances.c, t.studies.c
    mine = i.study_uid == s.study_uid
    first = sa.select(sa.func.min(i.received_at)).where(mine).scalar_subquery()
    last = sa.select(sa.func.max(i.received_at)).where(mine).scalar_subquery()
    connection.execute(sa.update(t.studies).values(first_received_at=first, last_received_at=last))


def _go_on_above(connection: sa.Connection, highest: int) -> int:
    """Let the next job's id be above every one that was ever given; give that id."""
    if connection.dialect.name == "postgresql":
        sequence = sa.text("SELECT setval(pg_get_serial_sequence('jobs', 'id'), :n, :called)")
        connection.execute(sequence, {"n": max(highest, 1), "called": highest > 0})
    else:
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'jobs'"))
        insert = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', :n)")
        connection.execute(insert, {"n": highest})
    return highest + 1


def _value(name: str, raw: Any) -> Any:
    return _time(raw) if isinstance(t.jobs.c[name].type, t.Utc) else raw


def _time(raw: Any) -> datetime | None:
    return None if raw is None else datetime.fromisoformat(str(raw))


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
