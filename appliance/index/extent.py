"""What the index holds of a patient or a study: all of it that goes when it is erased.

Everything of a study goes.  Results that a stream made of it under another study's UID
go too; a study that holds nothing else goes whole with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.states import DeliveryState

OPEN = (DeliveryState.DUE, DeliveryState.SENDING)
T = TypeVar("T", str, int)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a person wants erased: all of one Patient ID, or one Study Instance UID."""

    kind: Literal["patient", "study"]
    value: str


@dataclass(frozen=True, slots=True)
class Whole:
    """A study of which everything goes; `is_made` when it holds results of the others only."""

    study_uid: str
    patient_id: str
    patient_name: str
    instances: int
    size_bytes: int
    is_made: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A result that goes while the rest of its study stays."""

    study_uid: str
    job_id: int
    sop_instance_uid: str
    path: str


@dataclass(frozen=True, slots=True)
class Extent:
    """All that goes: `jobs` with all they have; `makers` only lose the results that go.

    `streams` are the AE titles that the jobs were for, `uids` those of the studies, series
    and instances.
    """

    studies: tuple[Whole, ...]
    results: tuple[Made, ...]
    jobs: tuple[int, ...]
    makers: tuple[int, ...]
    streams: tuple[str, ...]
    uids: frozenset[str]
    arrivals: int
    receptions: int
    deliveries: int
    open_deliveries: int
    events: int

    @property
    def study_uids(self) -> list[str]:
        """Give the studies that go whole, in order."""
        return sorted(one.study_uid for one in self.studies)

    @property
    def instances(self) -> int:
        """Count the instances that go."""
        return sum(one.instances for one in self.studies) + len(self.results)

    @property
    def is_nothing(self) -> bool:
        """Say whether the index holds nothing of it at all."""
        held = (self.instances, self.arrivals, self.receptions, self.events, len(self.jobs))
        return not any(held)


def extent(connection: sa.Connection, subject: Subject) -> Extent:
    """Find all that goes with a subject."""
    asked = _asked_for(connection, subject)
    studies, jobs, results = set(asked), list[int](), list[Made]()
    while True:
        jobs = _jobs_of(connection, studies)
        results = _results_elsewhere(connection, jobs, studies)
        empty = _made_only_of(connection, {one.study_uid for one in results}, jobs)
        if not empty:
            break
        studies |= empty
    wholes = [_whole(connection, uid, is_made=uid not in asked) for uid in sorted(studies)]
    deliveries = _deliveries(connection, jobs)
    return Extent(
        studies=tuple(wholes),
        results=tuple(results),
        jobs=tuple(jobs),
        makers=tuple(_makers(connection, studies, jobs)),
        streams=tuple(_streams_of(connection, jobs)),
        uids=frozenset(_uids(connection, studies, results)),
        arrivals=_count(connection, t.arrivals.c.study_uid, studies),
        receptions=_count(connection, t.receptions.c.study_uid, studies),
        deliveries=len(deliveries),
        open_deliveries=sum(state in OPEN for state in deliveries),
        events=_count(connection, t.events.c.study_uid, studies),
    )


def portions(values: Sequence[T], size: int = 500) -> Iterator[Sequence[T]]:
    """Cut what goes into one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _asked_for(connection: sa.Connection, subject: Subject) -> set[str]:
    if subject.kind == "study":
        return {subject.value}  # of one whose files went long ago, jobs and events may be left
    s = t.studies.c
    return set(connection.scalars(sa.select(s.study_uid).where(s.patient_id == subject.value)))


def _jobs_of(connection: sa.Connection, studies: Collection[str]) -> list[int]:
    j, found = t.jobs.c, list[int]()
    for some in portions(sorted(studies)):
        found += connection.scalars(sa.select(j.id).where(j.study_uid.in_(some)))
    return sorted(found)


def _results_elsewhere(
    connection: sa.Connection, jobs: Sequence[int], studies: Collection[str]
) -> list[Made]:
    i, found = t.instances.c, list[Made]()
    for some in portions(jobs):
        query = sa.select(i.study_uid, i.made_by_job, i.sop_instance_uid, i.path)
        rows = connection.execute(query.where(i.made_by_job.in_(some)))
        found += [Made(*row) for row in rows if row.study_uid not in studies]
    return sorted(found, key=lambda one: one.sop_instance_uid)


def _made_only_of(
    connection: sa.Connection, studies: Collection[str], jobs: Sequence[int]
) -> set[str]:
    """Give those of these studies that hold nothing but results of these jobs."""
    i, known = t.instances.c, set(jobs)
    empty = set()
    for uid in studies:
        query = sa.select(i.made_by_job).where(i.study_uid == uid).distinct()
        if set(connection.scalars(query)) <= known:
            empty.add(uid)
    return empty


def _whole(connection: sa.Connection, study_uid: str, *, is_made: bool) -> Whole:
    s, i = t.studies.c, t.instances.c
    who = sa.select(s.patient_id, s.patient_name).where(s.study_uid == study_uid)
    row = connection.execute(who).first()
    size = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(i.size_bytes), 0))
    instances, size_bytes = connection.execute(size.where(i.study_uid == study_uid)).one()
    patient_id, name = (row.patient_id, row.patient_name) if row else ("", "")
    return Whole(study_uid, patient_id, name, instances, int(size_bytes), is_made)


def _makers(connection: sa.Connection, studies: Collection[str], jobs: Sequence[int]) -> list[int]:
    i, found = t.instances.c, set[int]()
    for some in portions(sorted(studies)):
        query = sa.select(i.made_by_job).where(i.study_uid.in_(some), i.made_by_job.is_not(None))
        found.update(one for one in connection.scalars(query.distinct()) if one is not None)
    return sorted(found - set(jobs))


def _streams_of(connection: sa.Connection, jobs: Sequence[int]) -> list[str]:
    j, found = t.jobs.c, set[str]()
    for some in portions(jobs):
        found.update(connection.scalars(sa.select(j.ae_title).where(j.id.in_(some)).distinct()))
    return sorted(found)


def _uids(
    connection: sa.Connection, studies: Collection[str], results: Sequence[Made]
) -> Iterator[str]:
    i = t.instances.c
    yield from studies
    yield from (one.sop_instance_uid for one in results)
    for some in portions(sorted(studies)):
        series = sa.select(t.series.c.series_uid).where(t.series.c.study_uid.in_(some))
        yield from connection.scalars(series)
        yield from connection.scalars(sa.select(i.sop_instance_uid).where(i.study_uid.in_(some)))
    yield from _series_of_results(connection, results)


def _series_of_results(connection: sa.Connection, results: Sequence[Made]) -> Iterator[str]:
    """Name the series that hold nothing but results that go."""
    i, goes = t.instances.c, {one.sop_instance_uid for one in results}
    of_these = set[str]()
    for some in portions(sorted(goes)):
        query = sa.select(i.series_uid).where(i.sop_instance_uid.in_(some))
        of_these.update(connection.scalars(query.distinct()))
    for uid in sorted(of_these):
        if goes.issuperset(
            connection.scalars(sa.select(i.sop_instance_uid).where(i.series_uid == uid))
        ):
            yield uid


def _deliveries(connection: sa.Connection, jobs: Sequence[int]) -> list[str]:
    d, states = t.deliveries.c, list[str]()
    for some in portions(jobs):
        states += connection.scalars(sa.select(d.state).where(d.job_id.in_(some)))
    return states


def _count(connection: sa.Connection, column: sa.Column[Any], values: Collection[str]) -> int:
    total = 0
    for some in portions(sorted(values)):
        total += connection.scalar(sa.select(sa.func.count()).where(column.in_(some))) or 0
    return total
