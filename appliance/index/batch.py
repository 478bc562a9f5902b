"""Many instances that came, in a few statements: what is known of them, and their rows.

Called by intake's writer, in its own transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.bulk import IGNORE, Insert
from appliance.index.catalog import series_values, study_values
from appliance.index.database import Database, insert_new

if TYPE_CHECKING:
    from appliance.dicom.header import Header

# Columns of instances and receptions that a batch fills, in the order of its cells.
_INSTANCE = (
    "sop_instance_uid", "series_uid", "study_uid", "sop_class_uid", "transfer_syntax_uid",
    "instance_number", "path", "size_bytes", "received_at", "marks",
)  # fmt: skip
_RECEPTION = (
    "sop_instance_uid", "study_uid", "called_ae_title", "calling_ae_title", "address",
    "association_id", "received_at", "arrival_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where the content of a known instance stands."""

    path: str
    study_uid: str
    series_uid: str
    size_bytes: int
    received_at: datetime
    made_by_job: int | None


@dataclass(frozen=True, slots=True)
class Claims:
    """What the index says of the UIDs of a batch; what it does not know is absent.

    `patients` maps studies to Patient ID, name and birth date, `studies` series to theirs.
    """

    instances: dict[str, Place]
    patients: dict[str, tuple[str, str, str]]
    going: frozenset[str]
    studies: dict[str, str]


def look_up(
    connection: sa.Connection,
    sop_instance_uids: Iterable[str],
    study_uids: Iterable[str],
    series_uids: Iterable[str],
) -> Claims:
    """Look the UIDs of a batch up; no erasure of its studies begins before this transaction ends.

    Called under the locks of all of them.
    """
    known = find_places(connection, sop_instance_uids)
    wanted = {*study_uids, *(place.study_uid for place in known.values())}
    studies = connection.execute(_STUDIES, {"uids": sorted(wanted)}).all()
    series = connection.execute(_SERIES, {"uids": sorted(series_uids)})
    return Claims(
        instances=known,
        patients={row[0]: (row[1], row[2], row[3]) for row in studies},
        going=frozenset(row[0] for row in studies if row.going_since is not None),
        studies={row[0]: row[1] for row in series},
    )


def find_places(connection: sa.Connection, sop_instance_uids: Iterable[str]) -> dict[str, Place]:
    """Say where these instances stand, those that are kept."""
    known: dict[str, Place] = {}
    for some in _portions(sop_instance_uids):
        found = connection.execute(_PLACES, {"uids": some})
        known |= {row[0]: Place(*row[1:]) for row in found}
    return known


def add_studies(
    connection: sa.Connection,
    firsts: Iterable[tuple[Header, datetime]],
    last_times: Mapping[str, datetime],
) -> bool:
    """Add the studies of these headers, and move the last times of all that are named.

    False when somebody else made one of them meanwhile: then nothing of this may stay.
    """
    for header, at in firsts:
        if not insert_new(connection, t.studies, study_values(header, at)):
            return False
    times = [{"uid": uid, "at": last_times[uid]} for uid in sorted(last_times)]
    if times:
        connection.execute(_MOVE_LAST, times)
    return True


def add_series(connection: sa.Connection, firsts: Iterable[Header]) -> None:
    """Add the series of these headers that are not there yet."""
    for header in firsts:
        insert_new(connection, t.series, series_values(header))


def add_instances(connection: sa.Connection, rows: Sequence[Sequence[object]]) -> None:
    """Add instances, cells in the order of `_INSTANCE`; their digests are filled in later."""
    _INSTANCES.run(connection, rows)


def add_receptions(connection: sa.Connection, rows: Sequence[Sequence[object]]) -> None:
    """Add receptions, cells in the order of `_RECEPTION`; those that are there already stay."""
    _RECEPTIONS.run(connection, rows)


def lock(
    db: Database,
    connection: sa.Connection,
    sop_instance_uids: Iterable[str],
    study_uids: Iterable[str],
    series_uids: Iterable[str],
) -> None:
    """Take the locks that `Filing` takes for one instance, of all: kind by kind, each in order.

    So two workers never wait for each other in a ring.
    """
    names = [f"instance {uid}" for uid in sorted(sop_instance_uids)]
    names += [f"study {uid}" for uid in sorted(study_uids)]
    names += [f"series {uid}" for uid in sorted(series_uids)]
    db.lock_all(connection, names)


def _portions(uids: Iterable[str]) -> Iterator[list[str]]:
    """Give as many as one statement should ask for."""
    wanted = sorted(uids)
    for start in range(0, len(wanted), 500):
        yield wanted[start : start + 500]


# Made once: to build a statement takes longer than to run it.
_I, _S, _R = t.instances.c, t.studies.c, t.series.c
_UIDS: sa.BindParameter[str] = sa.bindparam("uids", expanding=True)
_PLACES = sa.select(
    _I.sop_instance_uid, _I.path, _I.study_uid, _I.series_uid, _I.size_bytes, _I.received_at,
    _I.made_by_job,
).where(_I.sop_instance_uid.in_(_UIDS))  # fmt: skip
_STUDIES = (
    sa.select(_S.study_uid, _S.patient_id, _S.patient_name, _S.birth_date, _S.going_since)
    .where(_S.study_uid.in_(_UIDS))
    .order_by(_S.study_uid)
    .with_for_update()
)
_SERIES = sa.select(_R.series_uid, _R.study_uid).where(_R.series_uid.in_(_UIDS))
_AT = sa.bindparam("at", type_=t.Utc)
_MOVE_LAST = (
    sa.update(t.studies)
    .where(_S.study_uid == sa.bindparam("uid"), _S.last_received_at < _AT)
    .values(last_received_at=_AT)
)
_INSTANCES = Insert(t.instances, _INSTANCE, {"dataset_sha256": "''"})
_RECEPTIONS = Insert(t.receptions, _RECEPTION, {"is_conflict": "false"}, IGNORE)
