"""Many instances that came, in a few statements: what is known of them, and their rows.

Called by intake's writer, in its own transaction.  The rows of a batch go to the engine
as one text in JSON, of which it makes them itself: the thread that writes them then
holds Python's lock for a few microseconds a row, which the threads that receive need.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from appliance.index import schema as t
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
_NUMBERS = {"size_bytes", "arrival_id"}


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
    s, r = t.studies.c, t.series.c
    known = find_places(connection, sop_instance_uids)
    wanted = {*study_uids, *(place.study_uid for place in known.values())}
    studies = connection.execute(
        sa.select(s.study_uid, s.patient_id, s.patient_name, s.birth_date, s.going_since)
        .where(s.study_uid.in_(sorted(wanted)))
        .order_by(s.study_uid)
        .with_for_update()
    ).all()
    series = connection.execute(
        sa.select(r.series_uid, r.study_uid).where(r.series_uid.in_(sorted(series_uids)))
    )
    return Claims(
        instances=known,
        patients={row[0]: (row[1], row[2], row[3]) for row in studies},
        going=frozenset(row[0] for row in studies if row.going_since is not None),
        studies={row[0]: row[1] for row in series},
    )


def find_places(connection: sa.Connection, sop_instance_uids: Iterable[str]) -> dict[str, Place]:
    """Say where these instances stand, those that are kept."""
    i, known = t.instances.c, dict[str, Place]()
    for some in _portions(sop_instance_uids):
        query = sa.select(
            i.sop_instance_uid, i.path, i.study_uid, i.series_uid, i.size_bytes, i.received_at,
            i.made_by_job,
        ).where(i.sop_instance_uid.in_(some))  # fmt: skip
        known |= {row[0]: Place(*row[1:]) for row in connection.execute(query)}
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
    s = t.studies.c
    for study_uid in sorted(last_times):
        at = last_times[study_uid]
        connection.execute(
            sa.update(t.studies)
            .where(s.study_uid == study_uid, s.last_received_at < at)
            .values(last_received_at=at)
        )
    return True


def add_series(connection: sa.Connection, firsts: Iterable[Header]) -> None:
    """Add the series of these headers that are not there yet."""
    for header in firsts:
        insert_new(connection, t.series, series_values(header))


def add_instances(connection: sa.Connection, rows: Sequence[Sequence[object]]) -> None:
    """Add instances, cells in the order of `_INSTANCE`; their digests are filled in later."""
    if rows:
        statement = _INSTANCES_OF[connection.dialect.name]
        connection.execute(statement, {"rows": json.dumps(rows)})


def add_receptions(connection: sa.Connection, rows: Sequence[Sequence[object]]) -> None:
    """Add receptions, cells in the order of `_RECEPTION`; those that are there already stay."""
    if rows:
        statement = _RECEPTIONS_OF[connection.dialect.name]
        connection.execute(statement, {"rows": json.dumps(rows)})


def time_cell(at: datetime) -> str:
    """Write an aware UTC datetime as `schema.Utc` does, in a third of the time."""
    return at.isoformat(timespec="microseconds")[:26] + "Z"


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


def _insert_of(engine: str, table: str, columns: Sequence[str], fixed: dict[str, str]) -> str:
    """Write an INSERT of the rows in a JSON text; `fixed` columns have one value for all."""
    cells = []
    for at, name in enumerate(columns):
        if engine == "sqlite":
            cells.append(f"json_extract(value, '$[{at}]')")
        else:
            cell = f"(value->>{at})"
            cells.append(f"CAST({cell} AS bigint)" if name in _NUMBERS else cell)
    rows = "json_each(:rows)" if engine == "sqlite" else "json_array_elements(CAST(:rows AS json))"
    into = ", ".join([*columns, *fixed])
    return (
        f"INSERT INTO {table} ({into}) SELECT {', '.join([*cells, *fixed.values()])} "
        f"FROM {rows} WHERE true"
    )


_ENGINES = ("sqlite", "postgresql")
_INSTANCES_OF = {
    engine: sa.text(_insert_of(engine, "instances", _INSTANCE, {"dataset_sha256": "''"}))
    for engine in _ENGINES
}
_RECEPTIONS_OF = {
    engine: sa.text(
        _insert_of(engine, "receptions", _RECEPTION, {"is_conflict": "false"})
        + " ON CONFLICT DO NOTHING"
    )
    for engine in _ENGINES
}
