"""Two who move the same row at the same moment: one of them finds it moved."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from appliance.errors import DeliveryError
from appliance.index import attempts, deliveries, jobs
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.states import DeliveryState, JobState
from tests.unit.index import test_deliveries
from tests.unit.index.test_moves_of_a_job import NOW, claim, create, get, new_job

T = TypeVar("T")


def while_another_writes(db: Database, change: sa.Update, move: Callable[[], T]) -> T | Exception:
    """Begin a change, let `move` run into it, commit; what `move` gave or raised."""
    found: list[T | Exception] = []

    def act() -> None:
        try:
            found.append(move())
        except DeliveryError as error:
            found.append(error)

    thread = threading.Thread(target=act)
    with db.write() as connection:
        connection.execute(change)
        thread.start()
        thread.join(0.5)
    thread.join(10)
    return found[0]


def test_a_job_that_is_cancelled_as_it_is_claimed_is_not_run(db: Database) -> None:
    job_id = create(db, new_job("1.1"))
    cancelled = sa.update(t.jobs).where(t.jobs.c.id == job_id).values(state=JobState.CANCELLED)
    assert while_another_writes(db, cancelled, lambda: claim(db)) is None


def test_a_job_that_is_claimed_as_it_is_cancelled_is_stopped_by_its_worker(db: Database) -> None:
    job_id = create(db, new_job("1.1"))
    claimed = (
        sa.update(t.jobs)
        .where(t.jobs.c.id == job_id)
        .values(state=JobState.RUNNING, attempt=1, tries=1)
    )
    state = while_another_writes(db, claimed, lambda: jobs.cancel(db, job_id, "ann", NOW))
    assert state == JobState.RUNNING
    assert get(db, job_id).cancel_requested, "it goes on, and its lane counts as free"
    assert claim(db) is None
    with db.write() as connection:
        attempts.finish_cancelled(connection, get(db, job_id), NOW)


def test_a_delivery_that_is_claimed_as_a_person_resends_it_is_not_sent_twice(db: Database) -> None:
    delivery_id = test_deliveries.make(db)
    claimed = (
        sa.update(t.deliveries)
        .where(t.deliveries.c.id == delivery_id)
        .values(state=DeliveryState.SENDING, attempt=1)
    )
    told = while_another_writes(db, claimed, lambda: deliveries.resend(db, delivery_id, NOW))
    assert isinstance(told, DeliveryError)
    assert test_deliveries.get(db, delivery_id).state == DeliveryState.SENDING
