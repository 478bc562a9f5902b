"""Arrivals: one is open for each called AE title and study, whoever sends over what."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from appliance.dicom.header import Header
from appliance.index import arrivals, catalog
from appliance.index.arrivals import Association, OpenArrival, Reception
from appliance.index.database import Database
from appliance.index.states import Ending

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def associate(db: Database, id: str, called: str = "ECHO", process: str = "h/1/1") -> None:
    arrivals.open_association(db, Association(id, called, "CT1", "10.0.0.1", process, NOW))


def receive(
    db: Database,
    sop: str,
    assoc: str,
    *,
    called: str = "ECHO",
    at: datetime = NOW,
    level: str | None = "study",
    made_by_job: int | None = None,
) -> int | None:
    header = Header("1.2.840", sop, "1.2", "1.3", "1.2.840.10008.1.2.1")
    with db.write() as connection:
        catalog.add_instance(
            connection,
            header,
            path=f"studies/{sop}",
            size_bytes=1,
            dataset_sha256="0",
            now=at,
            made_by_job=made_by_job,
        )
        reception = Reception(sop, "1.2", "1.3", called, "CT1", "10.0.0.1", assoc, at)
        return arrivals.receive(connection, reception, level)


def the_open(db: Database, active_since: datetime = NOW - 60 * SECOND) -> list[OpenArrival]:
    return arrivals.open_arrivals(db, active_since)


def close(db: Database, arrival: OpenArrival, now: datetime = NOW) -> bool:
    with db.write() as connection:
        return arrivals.close_arrival(
            connection, arrival, now, reason="quiet", incomplete=False, digest="d"
        )


def test_two_associations_of_one_study_are_one_arrival(db: Database) -> None:
    associate(db, "a")
    associate(db, "b")
    assert receive(db, "1.1", "a") == receive(db, "1.2", "b")
    [arrival] = the_open(db)
    assert arrival.open_associations == 2


def test_two_ae_titles_are_two_arrivals_of_one_copy(db: Database) -> None:
    associate(db, "a")
    associate(db, "b", called="MONTAGE")
    assert receive(db, "1.1", "a") != receive(db, "1.1", "b", called="MONTAGE")
    assert catalog.count_instances(db) == 1
    assert len(the_open(db)) == 2


def test_many_writers_at_once_open_one_arrival(db: Database) -> None:
    for number in range(8):
        associate(db, f"a{number}")
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda n: receive(db, f"1.{n}", f"a{n}"), range(8)))
    assert len(ids) == 1
    [arrival] = the_open(db)
    assert arrival.open_associations == 8


def test_a_released_association_holds_an_arrival_no_more(db: Database) -> None:
    associate(db, "a")
    receive(db, "1.1", "a")
    arrivals.close_association(db, "a", Ending.RELEASED, NOW, instances=1, failures=0)
    [arrival] = the_open(db)
    assert (arrival.open_associations, arrival.endings) == (0, {"released"})
    assert arrivals.count_open_associations(db) == 0


def test_a_silent_association_counts_as_closed_and_bytes_make_it_count_again(db: Database) -> None:
    associate(db, "a")
    receive(db, "1.1", "a")
    later = NOW + 31 * SECOND
    assert the_open(db, active_since=later - 30 * SECOND)[0].open_associations == 0
    arrivals.beat_associations(db, ["a"], later)
    assert the_open(db, active_since=later - 30 * SECOND)[0].open_associations == 1


def test_associations_of_a_dead_process_are_closed_with_that_as_their_end(db: Database) -> None:
    associate(db, "a", process="h/1/1")
    associate(db, "b", process="h/2/2")
    receive(db, "1.1", "a")
    assert arrivals.receiving_processes(db) == {"h/1/1", "h/2/2"}
    assert arrivals.close_associations_of(db, {"h/1/1"}, NOW) == 1
    assert the_open(db)[0].endings == {Ending.PROCESS_DIED}
    assert arrivals.count_open_associations(db) == 1


def test_an_arrival_that_got_something_since_it_was_judged_is_not_closed(db: Database) -> None:
    associate(db, "a")
    receive(db, "1.1", "a")
    [judged] = the_open(db)
    receive(db, "1.2", "a", at=NOW + SECOND)
    assert close(db, judged) is False
    [again] = the_open(db)
    assert close(db, again) is True
    assert close(db, again) is False


def test_ft_40_a_late_instance_opens_a_new_arrival_over_everything(db: Database) -> None:
    associate(db, "a")
    first = receive(db, "1.1", "a")
    close(db, the_open(db)[0])
    second = receive(db, "1.2", "a", at=NOW + SECOND)
    assert second != first
    with db.read() as connection:
        inputs = arrivals.received_for(connection, "ECHO", "1.2")
    assert [one.sop_instance_uid for one in inputs] == ["1.1", "1.2"]


def test_what_only_another_ae_title_received_and_results_are_not_input(db: Database) -> None:
    associate(db, "a")
    receive(db, "1.1", "a")
    receive(db, "1.2", "a", called="MONTAGE")
    receive(db, "1.3", "a", made_by_job=7)
    with db.read() as connection:
        inputs = arrivals.received_for(connection, "ECHO", "1.2")
    assert [one.sop_instance_uid for one in inputs] == ["1.1"]


def test_without_a_stream_there_is_a_reception_and_no_arrival(db: Database) -> None:
    associate(db, "a", called="BROOKBOX")
    assert receive(db, "1.1", "a", called="BROOKBOX", level=None) is None
    assert the_open(db) == []


def test_streams_of_level_series_have_an_arrival_for_each_series(db: Database) -> None:
    associate(db, "a")
    receive(db, "1.1", "a", level="series")
    assert the_open(db)[0].series_uid == "1.3"


def test_the_last_sender_stands_last(db: Database) -> None:
    associate(db, "a")
    receive(db, "1.1", "a", at=NOW)
    with db.write() as connection:
        reception = Reception("1.1", "1.2", "1.3", "ECHO", "CT0", "10.0.0.2", "b", NOW + SECOND)
        arrivals.receive(connection, reception, "study")
        senders = arrivals.senders_of(connection, "ECHO", "1.2")
    assert [(one.calling_ae_title, one.received_at) for one in senders] == [
        ("CT1", NOW),
        ("CT0", NOW + SECOND),
    ]


def test_the_senders_of_a_series_are_not_those_of_another(db: Database) -> None:
    with db.write() as connection:
        for series, calling in (("1.3", "CT1"), ("1.4", "MR1")):
            header = Header("1.2.840", f"{series}.1", "1.2", series, "1.2.840.10008.1.2.1")
            catalog.add_instance(
                connection, header, path=series, size_bytes=1, dataset_sha256="0", now=NOW
            )
            one = Reception(f"{series}.1", "1.2", series, "ECHO", calling, "10.0.0.2", "b", NOW)
            arrivals.receive(connection, one, "series")
        found = arrivals.senders_of(connection, "ECHO", "1.2", "1.3")
        assert [one.calling_ae_title for one in found] == ["CT1"]
        assert len(arrivals.senders_of(connection, "ECHO", "1.2")) == 2


def test_what_is_learned_of_a_sender_is_kept(db: Database) -> None:
    for quiet in (30.0, 25.0):
        with db.write() as connection:
            arrivals.learn_quiet(connection, "CT1", quiet, 20)
    assert arrivals.learned_quiet(db) == {"CT1": (25.0, 20)}
