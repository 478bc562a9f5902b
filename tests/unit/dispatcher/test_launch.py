"""A complete arrival becomes one job, whoever launches it and whatever comes meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from appliance import ids
from appliance.dispatcher.completeness import Verdict
from appliance.dispatcher.launch import Launched, input_digest, launch
from appliance.dispatcher.learning import learn
from appliance.dispatcher.reconcile import Clock
from appliance.index import arrival_list, arrivals, attempts, job_list, schema
from appliance.index.arrivals import Association, OpenArrival, Reception
from appliance.index.attempts import Finish
from appliance.index.database import Connection, Database
from appliance.index.job_list import Filter
from appliance.settings import Completeness
from appliance.streams.info import StreamInfo
from tests.kit import catalogued

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMPLETE = Verdict(True, NOW, "Nothing came for 30 s.")
INFO = StreamInfo(AETitle="ECHO", name="Echo", version="3", priority="high")


def receive(
    db: Database, *numbers: int, at: datetime = NOW, study: str = "1.2", is_conflict: bool = False
) -> None:
    association = ids.new_id()
    arrivals.open_association(db, Association(association, "ECHO", "CT1", "1.1.1.1", "h/1/1", at))
    with db.write() as connection:
        for number in numbers:
            uid = catalogued.add(connection, study, number, at)
            came = Reception(
                uid, study, f"{study}.1", "ECHO", "CT1", "1.1.1.1", association, at, is_conflict
            )
            arrivals.receive(connection, came, "study")


def the_arrival(db: Database) -> OpenArrival:
    [arrival] = arrivals.open_arrivals(db, NOW)
    return arrival


def launched(db: Database, on_resend: str = "show", info: StreamInfo | None = INFO) -> Launched:
    made = launch(db, Path("/nowhere"), the_arrival(db), COMPLETE, info, on_resend, NOW)
    assert made is not None
    return made


class Late(Database):
    """Lets somebody else write in the moment before a transaction of the launch begins."""

    def __init__(self, db: Database, write: Callable[[Database], None]) -> None:
        super().__init__(db.engine)
        self._other, self._write = db, write

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._write(self._other)
        with super().write() as connection:
            yield connection


def test_a_large_instance_that_was_long_in_writing_is_not_left_out(db: Database) -> None:
    receive(db, 1, 2)
    arrival = the_arrival(db)
    # It began to come before the others were in: the arrival's last instance is not younger.
    late = Late(db, lambda db: receive(db, 3, at=NOW - timedelta(seconds=3)))
    assert launch(late, Path("/nowhere"), arrival, COMPLETE, INFO, "show", NOW) is None
    job = launched(db).job
    assert job is not None and job.input_count == 3


def test_a_job_has_everything_received_and_the_streams_priority(db: Database) -> None:
    receive(db, 3, 1, 2)
    job = launched(db).job
    assert job is not None
    assert (job.input_count, job.priority, job.stream_name, job.stream_version) == (
        3,
        1,
        "Echo",
        "3",
    )
    assert (job.calling_ae_title, job.address) == ("CT1", "1.1.1.1")
    with db.read() as connection:
        inputs = job_list.inputs_of(connection, job.id)
    assert job.input_digest == input_digest(inputs) == input_digest(inputs[::-1])


def test_another_streams_result_makes_no_job_and_that_is_said(db: Database) -> None:
    receive(db, 1)
    with db.write() as connection:
        connection.execute(sa.update(schema.instances).values(made_by_job=7))
    made = launched(db)
    assert made.job is None
    assert "results of this node" in made.note


def test_two_dispatchers_that_launch_at_once_make_one_job(db: Database) -> None:
    receive(db, 1, 2)
    arrival = the_arrival(db)
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(
                lambda _: launch(db, Path("/nowhere"), arrival, COMPLETE, INFO, "show", NOW),
                range(8),
            )
        )
    assert len([one for one in made if one is not None and one.job]) == 1
    with db.read() as connection:
        assert len(job_list.jobs_matching(connection, Filter(), 10)) == 1


def test_nothing_happens_when_something_came_since_it_was_judged(db: Database) -> None:
    receive(db, 1)
    judged = the_arrival(db)
    receive(db, 2, at=NOW + timedelta(seconds=1))
    assert launch(db, Path("/nowhere"), judged, COMPLETE, INFO, "show", NOW) is None
    with db.read() as connection:
        assert job_list.jobs_matching(connection, Filter(), 10) == []
    assert launched(db).job is not None


def test_a_study_for_a_stream_that_is_gone_is_queued_all_the_same(db: Database) -> None:
    receive(db, 1)
    job = launched(db, info=None).job
    assert job is not None
    assert job.state == "queued"


@pytest.mark.parametrize(("on_resend", "jobs"), [("show", 1), ("run", 1)])
def test_the_same_study_while_its_job_waits_is_never_a_second_job(
    db: Database, on_resend: str, jobs: int
) -> None:
    receive(db, 1, 2)
    first = launched(db).job
    assert first is not None
    receive(db, 2)
    again = launched(db, on_resend)
    assert again.job is None
    assert f"identical to job {first.id}" in again.note
    with db.read() as connection:
        assert len(job_list.jobs_matching(connection, Filter(), 10)) == jobs


def close(db: Database, number: int, at: datetime, study: str) -> None:
    receive(db, number, at=at, study=study)
    arrival = the_arrival(db)
    with db.read() as connection:
        before = arrivals.last_closed(connection, arrival)
    made = launch(db, Path("/nowhere"), arrival, COMPLETE, INFO, "show", at + timedelta(seconds=30))
    assert made is not None
    learn(db, arrival, made.digest, before, Completeness())


def test_a_sender_is_learned_from_its_arrivals(db: Database) -> None:
    for day in range(22):
        close(db, 1, NOW + timedelta(days=day), f"1.{day}")
    quiet, clean = arrivals.learned_quiet(db)["CT1"]
    assert (round(quiet, 2), clean) == (19.2, 22)
    late = NOW + timedelta(days=21, minutes=2)
    close(db, 1, late, "1.21")  # the same again: says nothing
    assert arrivals.learned_quiet(db)["CT1"] == (quiet, 22)
    close(db, 2, late + timedelta(minutes=2), "1.21")
    assert arrivals.learned_quiet(db)["CT1"] == (quiet * 2, 0)


def test_ft_29_a_clock_that_jumped_is_not_trusted_for_as_long_as_a_lease() -> None:
    clock = Clock(NOW, 100.0)
    clock.look(NOW + timedelta(seconds=5), 105.0)
    assert clock.trusts_leases(105.0, 60)
    assert clock.even_since == NOW
    woken = NOW + timedelta(hours=3)
    clock.look(woken, 106.0)
    clock.look(woken + timedelta(seconds=50), 156.0)
    assert not clock.trusts_leases(156.0, 60)
    assert clock.even_since == woken
    clock.look(woken + timedelta(seconds=61), 167.0)
    assert clock.trusts_leases(167.0, 60)
    clock.look(NOW, 168.0)
    assert not clock.trusts_leases(168.0, 60)
    assert clock.even_since == NOW, "silences count from now on, though it is earlier than before"


def test_the_digest_tells_contents_apart(db: Database) -> None:
    receive(db, 1, 2)
    with db.read() as connection:
        kept = arrivals.received_for(connection, "ECHO", "1.2")
    other = [kept[0], replace(kept[1], dataset_sha256="0" * 64)]
    assert input_digest(kept) != input_digest(other)
    assert input_digest(kept) != input_digest(kept[:1])


@pytest.mark.parametrize(("came_again", "is_doubtful"), [((1, 2), False), ((2,), True)])
def test_a_study_that_comes_again_whole_takes_the_doubt_from_its_job(
    db: Database, came_again: tuple[int, ...], is_doubtful: bool
) -> None:
    receive(db, 1, 2)
    doubtful = replace(COMPLETE, incomplete=True)
    made = launch(db, Path("/nowhere"), the_arrival(db), doubtful, INFO, "show", NOW)
    assert made is not None and made.job is not None and made.job.incomplete
    receive(db, *came_again)
    again = launched(db)
    assert again.job is None
    assert ("complete by it" in again.note) is not is_doubtful
    with db.read() as connection:
        [job] = job_list.jobs_matching(connection, Filter(), 10)
    assert job.incomplete is is_doubtful
    ended = attempts.claim_next(
        db, "ECHO", lanes=1, worker="h/1/1", lease=timedelta(minutes=1), now=NOW
    )
    assert ended is not None
    with db.write() as connection:
        attempts.finish(connection, ended, Finish("success", result_count=1, is_held=True), NOW)
    with db.read() as connection:
        [job] = job_list.jobs_matching(connection, Filter(), 10)
    assert job.is_held is is_doubtful


def test_results_that_are_held_are_sent_when_the_study_comes_again_whole(db: Database) -> None:
    receive(db, 1, 2)
    doubtful = replace(COMPLETE, incomplete=True)
    assert launch(db, Path("/nowhere"), the_arrival(db), doubtful, INFO, "show", NOW) is not None
    claimed = attempts.claim_next(
        db, "ECHO", lanes=1, worker="h/1/1", lease=timedelta(minutes=1), now=NOW
    )
    assert claimed is not None
    with db.write() as connection:
        catalogued.add(connection, "1.2", 900, NOW, made_by_job=claimed.id)
        attempts.finish(connection, claimed, Finish("success", result_count=1, is_held=True), NOW)
    receive(db, 1, 2)
    assert "complete by it" in launched(db).note
    with db.read() as connection:
        [job] = job_list.jobs_matching(connection, Filter(), 10)
    assert not job.is_held


def test_other_content_under_known_uids_is_told_and_never_called_identical(db: Database) -> None:
    receive(db, 1, 2)
    first = launched(db).job
    assert first is not None
    receive(db, 1, 2, is_conflict=True)
    again = launched(db)
    assert again.note.startswith(f"What is kept is identical to job {first.id}, ")
    with db.read() as connection:
        [closed] = arrival_list.without_job(connection, NOW - timedelta(hours=1))
    assert "2 instances of it came with other content" in closed.reason
    assert "quarantine" in closed.reason


def test_other_content_does_not_take_the_doubt_from_a_job(db: Database) -> None:
    receive(db, 1, 2)
    doubtful = replace(COMPLETE, incomplete=True)
    assert launch(db, Path("/nowhere"), the_arrival(db), doubtful, INFO, "show", NOW) is not None
    receive(db, 1)
    receive(db, 2, is_conflict=True)
    launched(db)
    with db.read() as connection:
        [job] = job_list.jobs_matching(connection, Filter(), 10)
    assert job.incomplete


def test_a_study_that_comes_again_after_its_results_were_removed_is_worked_again(
    db: Database,
) -> None:
    receive(db, 1, 2)
    assert launched(db).job is not None
    claimed = attempts.claim_next(
        db, "ECHO", lanes=1, worker="h/1/1", lease=timedelta(minutes=1), now=NOW
    )
    assert claimed is not None
    with db.write() as connection:  # its one result is in the store no more
        attempts.finish(connection, claimed, Finish("success", result_count=1), NOW)
    receive(db, 1, 2)
    again = launched(db)
    assert again.job is not None and again.job.id != claimed.id
