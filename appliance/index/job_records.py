"""Take the records of ended jobs into the index: their rows, and the event of each one's end.

A record is the job as it ended, beside its log (`job.json`); the caller reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from appliance.index import events, unknown_sends
from appliance.index import schema as t
from appliance.index.database import insert_new
from appliance.index.jobs import Job, cancel_superseded, end_sentence
from appliance.index.states import ACTIVE, ENDED, JobState

_PORTION = 1000


class Records:
    """What the records told so far.

    `makers` names the job of each result that a record names; `jobs` counts the jobs that
    the index did not know, or not as ended.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._ends: list[dict[str, Any]] = []
        self.makers: dict[str, int] = {}
        self.jobs = 0
        self.last_job_id = 0

    def take_all(self, records: Iterable[Mapping[str, Any]], made_at: datetime) -> None:
        """Take in the jobs that ended after `made_at`, and those that the index does not know."""
        for record in records:
            self._take(record, made_at)
            if len(self._ends) == _PORTION:
                self._tell_ends()
        self._tell_ends()

    def _take(self, record: Mapping[str, Any], made_at: datetime) -> None:
        values = _values_of(record)
        if values is None:
            return
        self.last_job_id = max(self.last_job_id, values["id"])
        self.makers.update({str(uid): values["id"] for uid in record.get("results", ())})
        is_new = insert_new(self._connection, t.jobs, values)
        if is_new or _ended_since(self._connection, values, made_at):
            _add_parts(self._connection, values["id"], record)
            self._ends.append(_end_of(values))
            self.jobs += 1

    def _tell_ends(self) -> None:
        events.append_all(self._connection, self._ends)
        self._ends.clear()


def supersede_older(connection: sa.Connection, now: datetime) -> None:
    """Let each job be superseded by the next one of its stream and study, as `jobs.create` does.

    A record tells how its job ended, not what came after; and a job that only the backup
    knows was not superseded yet when that was made.
    """
    j, newer = t.jobs.c, t.jobs.alias()
    n = newer.c
    next_one = (
        sa.select(sa.func.min(n.id))
        .where(
            n.ae_title == j.ae_title,
            n.study_uid == j.study_uid,
            n.series_uid == j.series_uid,
            n.id > j.id,
            n.run_again_of.is_(None),
        )
        .scalar_subquery()
    )
    query = sa.select(j.id, j.state, next_one.label("by")).where(j.superseded_by.is_(None))
    found = query.subquery().c
    for job_id, state, by in connection.execute(
        sa.select(found.id, found.state, found.by).where(found.by.is_not(None)).order_by(found.id)
    ).all():
        update = sa.update(t.jobs).where(j.id == job_id)
        connection.execute(update.values(superseded_by=by, is_held=False))
        if state == JobState.QUEUED:
            cancel_superseded(connection, job_id, by, now)


def _values_of(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give the row of an ended job; None when the record is not of one."""
    values = {
        field.name: _value(field.name, record[field.name])
        for field in fields(Job)
        if field.name in record
    }
    if values.get("state") not in list(ENDED) or values.get("created_at") is None:
        return None
    if values.get("routed_at") is None:
        # The router must not send all of it once more.
        note = unknown_sends.note_of(values["id"])
        values.update(routed_at=values.get("ended_at"), routing_note=note)
    values.update(lease_until=None, is_held=False)
    return values


def _ended_since(connection: sa.Connection, values: dict[str, Any], made_at: datetime) -> bool:
    """Let a job end that ended after the backup was made; False when it did not.

    It waited or ran then, or had ended before and was queued again.  A record that is older
    than the backup is of a job that was queued again by then.
    """
    ended_at = values.get("ended_at")
    if ended_at is None or ended_at <= made_at:
        return False
    c = t.jobs.c
    result = connection.execute(
        sa.update(t.jobs)
        .where(c.id == values["id"], sa.or_(c.state.in_(ACTIVE), c.ended_at < ended_at))
        .values(**values)
    )
    return result.rowcount == 1


def _add_parts(connection: sa.Connection, job_id: int, record: Mapping[str, Any]) -> None:
    for uid in record.get("inputs", ()):
        insert_new(connection, t.job_inputs, {"job_id": job_id, "sop_instance_uid": str(uid)})
    connection.execute(sa.delete(t.job_steps).where(t.job_steps.c.job_id == job_id))
    for step in record.get("steps", ()):
        times = {name: _time(step.get(name)) for name in ("started_at", "ended_at")}
        connection.execute(sa.insert(t.job_steps).values({**step, **times, "job_id": job_id}))


def _end_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the event that the end of a job had: nobody else kept it."""
    said = end_sentence(
        values["id"],
        values.get("ae_title", ""),
        values["state"],
        values.get("result_count") or 0,
        values.get("reason", ""),
    )
    is_cancelled = values["state"] == JobState.CANCELLED
    return {
        "at": values.get("ended_at") or values["created_at"],
        "kind": f"job {values['state']}",
        "who": values.get("cancelled_by" if is_cancelled else "worker", ""),
        "study_uid": values.get("study_uid", ""),
        "job_id": values["id"],
        "sentence": f"{said} This was taken from the job's record.",
        "facts": json.dumps({"attempt": values.get("attempt")}),
    }


def _value(name: str, raw: Any) -> Any:
    return _time(raw) if isinstance(t.jobs.c[name].type, t.Utc) else raw


def _time(raw: Any) -> datetime | None:
    return None if raw is None else datetime.fromisoformat(str(raw))
