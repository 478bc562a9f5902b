"""The audit trail: who did what to which UID.  Appended to, never changed.

One event per association, job, delivery or act of a person, never one per
instance.  No patient's name or ID: UIDs and ids say which study it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.bulk import Insert, time_cell

_COLUMNS = ("at", "kind", "who", "study_uid", "job_id", "sentence", "facts")
# Made once: to build a statement takes longer than to run it.
_ADD, _ADD_ALL = sa.insert(t.events), Insert(t.events, _COLUMNS)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry; `facts` is a JSON object."""

    id: int
    at: datetime
    kind: str
    who: str
    study_uid: str
    job_id: int | None
    sentence: str
    facts: str


def append(
    connection: sa.Connection,
    kind: str,
    sentence: str,
    now: datetime,
    *,
    who: str = "",
    study_uid: str = "",
    job_id: int | None = None,
    **facts: object,
) -> None:
    """Add one event; `kind` is a constant such as `association refused`."""
    made = row(kind, sentence, now, who=who, study_uid=study_uid, job_id=job_id, **facts)
    connection.execute(_ADD, made)


def row(
    kind: str,
    sentence: str,
    now: datetime,
    *,
    who: str = "",
    study_uid: str = "",
    job_id: int | None = None,
    **facts: object,
) -> dict[str, object]:
    """Make the row of an event, for `append_all`."""
    return {
        "at": now,
        "kind": kind,
        "who": who,
        "study_uid": study_uid,
        "job_id": job_id,
        "sentence": sentence,
        "facts": json.dumps(facts, default=str),
    }


def append_all(connection: sa.Connection, told: Sequence[Mapping[str, Any]]) -> None:
    """Add events in one statement; each is a whole row."""
    _ADD_ALL.run(
        connection,
        [[time_cell(one["at"]), *(one[name] for name in _COLUMNS[1:])] for one in told],
    )


def latest(
    connection: sa.Connection,
    limit: int,
    *,
    kind: str = "",
    job_id: int | None = None,
    study_uid: str = "",
    before: int = 0,
) -> list[Event]:
    """List events, newest first."""
    c = t.events.c
    query = sa.select(t.events).order_by(c.id.desc()).limit(limit)
    if kind:
        query = query.where(c.kind == kind)
    if job_id is not None:
        query = query.where(c.job_id == job_id)
    if study_uid:
        query = query.where(c.study_uid == study_uid)
    if before:
        query = query.where(c.id < before)
    return [Event(**row) for row in connection.execute(query).mappings()]
