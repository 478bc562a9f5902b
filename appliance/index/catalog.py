"""Studies, series and instances: what is kept, and where.

Rows are added by intake only, in its own transaction; an instance that is
there already stays as it is, unless intake moves its row to another content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import Database, insert_new
from appliance.index.going import check_not_going

if TYPE_CHECKING:
    # For the type alone: it brings pydicom, 40 MB that most processes need not hold.
    from appliance.dicom.header import Header


@dataclass(frozen=True, slots=True)
class Instance:
    """One kept instance; `path` is below data_root."""

    sop_instance_uid: str
    series_uid: str
    study_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: str
    path: str
    size_bytes: int
    dataset_sha256: str
    received_at: datetime
    made_by_job: int | None
    marks: str = ""  # what is not as the standard wants it, in words of dicom.marks


@dataclass(frozen=True, slots=True)
class Study:
    """One study, as the catalog shows it."""

    study_uid: str
    patient_id: str
    patient_name: str
    birth_date: str
    sex: str
    study_date: str
    study_time: str
    study_id: str
    accession_number: str
    description: str
    referring_physician: str
    first_received_at: datetime
    last_received_at: datetime
    going_since: datetime | None = None  # since when it is being erased


@dataclass(frozen=True, slots=True)
class Series:
    """One series, as the catalog shows it."""

    series_uid: str
    study_uid: str
    modality: str
    number: str
    description: str
    body_part: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """To whom UIDs belong; None where nothing is kept under one.

    `patient` is a study's Patient ID, name and birth date.
    """

    patient: tuple[str, str, str] | None
    study_of_series: str | None


_CLAIMED = sa.union_all(
    sa.select(
        sa.literal("study"),
        t.studies.c.patient_id,
        t.studies.c.patient_name,
        t.studies.c.birth_date,
    ).where(t.studies.c.study_uid == sa.bindparam("study_uid")),
    sa.select(sa.literal("series"), t.series.c.study_uid, sa.literal(""), sa.literal("")).where(
        t.series.c.series_uid == sa.bindparam("series_uid")
    ),
)


def add_instance(
    connection: sa.Connection,
    header: Header,
    *,
    path: str,
    size_bytes: int,
    dataset_sha256: str,
    now: datetime,
    made_by_job: int | None = None,
) -> bool:
    """Add an instance with its series and study; False when the instance is known already.

    Raises StudyGoing when the study is being erased.
    """
    if not insert_new(connection, t.studies, study_values(header, now)):
        check_not_going(connection, header.study_uid)
        connection.execute(
            sa.update(t.studies)
            .where(t.studies.c.study_uid == header.study_uid, t.studies.c.last_received_at < now)
            .values(last_received_at=now)
        )
    insert_new(connection, t.series, series_values(header))
    values = {
        "sop_instance_uid": header.sop_instance_uid,
        "series_uid": header.series_uid,
        "study_uid": header.study_uid,
        **_content_values(header, path, size_bytes, dataset_sha256, now),
        "made_by_job": made_by_job,
    }
    return insert_new(connection, t.instances, values)


def replace_content(
    connection: sa.Connection,
    kept: Instance,
    header: Header,
    *,
    path: str,
    size_bytes: int,
    dataset_sha256: str,
    now: datetime,
) -> bool:
    """Move a received instance's row from one content to another of the same series.

    False when the row is not what `kept` says any more, or is a result of ours.
    """
    i = t.instances.c
    moved = connection.execute(
        sa.update(t.instances)
        .where(
            i.sop_instance_uid == kept.sop_instance_uid,
            i.series_uid == header.series_uid,
            i.study_uid == header.study_uid,
            # Not by its digest, which may be filled in meanwhile: a path has one content.
            i.path == kept.path,
            i.received_at == kept.received_at,
            i.made_by_job.is_(None),
        )
        .values(**_content_values(header, path, size_bytes, dataset_sha256, now))
    )
    return moved.rowcount == 1


def find_instance(connection: sa.Connection, sop_instance_uid: str) -> Instance | None:
    """Look one instance up; None when it is not kept."""
    query = sa.select(t.instances).where(t.instances.c.sop_instance_uid == sop_instance_uid)
    row = connection.execute(query).mappings().first()
    return Instance(**row) if row else None


def find_instances(connection: sa.Connection, sop_instance_uids: Sequence[str]) -> list[Instance]:
    """Look many instances up, in order of series, number and UID; unknown ones are left out."""
    found: list[Instance] = []
    for start in range(0, len(sop_instance_uids), 500):
        some = sop_instance_uids[start : start + 500]
        query = sa.select(t.instances).where(t.instances.c.sop_instance_uid.in_(some))
        found += [Instance(**row) for row in connection.execute(query).mappings()]
    return sorted(found, key=_in_order)


def results_of(connection: sa.Connection, job_id: int) -> list[Instance]:
    """List what a job made, in order."""
    query = sa.select(t.instances).where(t.instances.c.made_by_job == job_id)
    return sorted((Instance(**row) for row in connection.execute(query).mappings()), key=_in_order)


def instances_of_study(connection: sa.Connection, study_uid: str) -> list[Instance]:
    """List all of a study, results too, in order."""
    query = sa.select(t.instances).where(t.instances.c.study_uid == study_uid)
    return sorted((Instance(**row) for row in connection.execute(query).mappings()), key=_in_order)


def find_study(connection: sa.Connection, study_uid: str) -> Study | None:
    """Look one study up; None when nothing of it is kept."""
    row = (
        connection.execute(sa.select(t.studies).where(t.studies.c.study_uid == study_uid))
        .mappings()
        .first()
    )
    return Study(**row) if row else None


def series_of(connection: sa.Connection, study_uid: str) -> list[Series]:
    """List the series of a study, by number."""
    query = sa.select(t.series).where(t.series.c.study_uid == study_uid)
    rows = [Series(**row) for row in connection.execute(query).mappings()]
    return sorted(rows, key=lambda series: (_number(series.number), series.series_uid))


def count_instances(db: Database) -> int:
    """Count what is kept."""
    with db.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(t.instances)) or 0


def hand_over_series(connection: sa.Connection, study_uids: Sequence[str]) -> None:
    """Give series of these studies that hold only instances of another study to that one.

    There are such where a person let an instance join under a series of another study.
    Whoever removes instances calls this before the empty series go.
    """
    i, s = t.instances.c, t.series.c
    in_it = i.series_uid == s.series_uid
    mine = sa.select(i.study_uid).where(in_it, i.study_uid == s.study_uid).exists()
    other = sa.select(sa.func.min(i.study_uid)).where(in_it, i.study_uid != s.study_uid)
    is_used = sa.select(i.study_uid).where(in_it, i.study_uid != s.study_uid).exists()
    connection.execute(
        sa.update(t.series)
        .where(s.study_uid.in_(study_uids), ~mine, is_used)
        .values(study_uid=other.scalar_subquery())
    )


def forget_instances(connection: sa.Connection, sop_instance_uids: Sequence[str]) -> None:
    """Take instances out of the catalog, and the series and studies that hold nothing more."""
    for start in range(0, len(sop_instance_uids), 500):
        some = sop_instance_uids[start : start + 500]
        connection.execute(sa.delete(t.receptions).where(t.receptions.c.sop_instance_uid.in_(some)))
        connection.execute(sa.delete(t.instances).where(t.instances.c.sop_instance_uid.in_(some)))
    used_series = sa.select(t.instances.c.series_uid)
    connection.execute(sa.delete(t.series).where(t.series.c.series_uid.not_in(used_series)))
    used_studies = sa.select(t.series.c.study_uid)
    connection.execute(sa.delete(t.studies).where(t.studies.c.study_uid.not_in(used_studies)))


def find_series(connection: sa.Connection, series_uid: str) -> Series | None:
    """Look one series up; None when nothing of it is kept."""
    query = sa.select(t.series).where(t.series.c.series_uid == series_uid)
    row = connection.execute(query).mappings().first()
    return Series(**row) if row else None


def claimed(connection: sa.Connection, study_uid: str, series_uid: str) -> Claimed:
    """Say to whom a Study and a Series UID belong already: asked of each instance, so in one go."""
    uids = {"study_uid": study_uid, "series_uid": series_uid}
    found = {row[0]: row[1:] for row in connection.execute(_CLAIMED, uids)}
    patient = found.get("study")
    return Claimed(
        patient=(patient[0], patient[1], patient[2]) if patient else None,
        study_of_series=found["series"][0] if "series" in found else None,
    )


def study_values(header: Header, now: datetime) -> dict[str, object]:
    """Give a study's row, from the header of its first instance."""
    return {
        "study_uid": header.study_uid,
        "patient_id": header.patient_id,
        "patient_name": header.patient_name,
        "birth_date": header.birth_date,
        "sex": header.sex,
        "study_date": header.study_date,
        "study_time": header.study_time,
        "study_id": header.study_id,
        "accession_number": header.accession_number,
        "description": header.study_description,
        "referring_physician": header.referring_physician,
        "first_received_at": now,
        "last_received_at": now,
    }


def _content_values(
    header: Header, path: str, size_bytes: int, dataset_sha256: str, now: datetime
) -> dict[str, object]:
    return {
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "instance_number": header.instance_number,
        "path": path,
        "size_bytes": size_bytes,
        "dataset_sha256": dataset_sha256,
        "received_at": now,
        "marks": ",".join(header.marks),
    }


def series_values(header: Header) -> dict[str, object]:
    """Give a series' row, from the header of its first instance."""
    return {
        "series_uid": header.series_uid,
        "study_uid": header.study_uid,
        "modality": header.modality,
        "number": header.series_number,
        "description": header.series_description,
        "body_part": header.body_part,
    }


def _in_order(instance: Instance) -> tuple[str, int, str]:
    return instance.series_uid, _number(instance.instance_number), instance.sop_instance_uid


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
