"""The node's own numbers: each counts what came since the sample before, and a week stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from appliance.index import deliveries, jobs, samples
from appliance.index.database import Database
from appliance.index.samples import Sample
from tests.unit.index.test_arrivals import associate, receive
from tests.unit.index.test_deliveries import claim, make
from tests.unit.index.test_moves_of_a_job import new_job
from tests.unit.index.test_troubles import run

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FIVE = timedelta(minutes=5)


def test_each_sample_counts_since_the_one_before(db: Database) -> None:
    with db.read() as connection:
        since = samples.start(connection, NOW)
    run(db, "success", NOW + timedelta(minutes=1), "1.1")
    run(db, "failed", NOW + timedelta(minutes=2), "1.2")
    make(db)
    delivery = claim(db, NOW + timedelta(minutes=3))
    assert delivery is not None
    deliveries.delivered(db, delivery, "Sent.", NOW + timedelta(minutes=3))
    with db.write() as connection:
        jobs.create(connection, new_job(study_uid="1.9"), NOW)
    with db.read() as connection:
        first, since = samples.count(connection, since, NOW + FIVE)
        second, _ = samples.count(connection, since, NOW + 2 * FIVE)
    assert (first["jobs_succeeded"], first["jobs_failed"], first["jobs_partial"]) == (1, 1, 0)
    assert first["deliveries_sent"] == 1 and first["deliveries_failed"] == 0
    assert first["wait_seconds"] == 0
    assert first["studies_waiting"] == second["studies_waiting"] == 2  # `make` queued one, too
    assert second["jobs_succeeded"] == second["deliveries_sent"] == 0
    assert "wait_seconds" not in second, "nothing ended, so nothing waited"


def test_only_what_somebody_misses_counts_as_given_up(db: Database) -> None:
    with db.read() as connection:
        since = samples.start(connection, NOW)
    make(db)
    refused = claim(db)
    assert refused is not None
    deliveries.give_up(db, refused, "Refused.", "ask the PACS", NOW + timedelta(minutes=1))
    with db.read() as connection:
        first, since = samples.count(connection, since, NOW + FIVE)
    make(db)
    with db.write() as connection:
        jobs.create(connection, new_job(input_digest="more"), NOW)
        assert deliveries.stop_superseded(connection, NOW + 2 * FIVE) == 1
    with db.read() as connection:
        second, _ = samples.count(connection, since, NOW + 2 * FIVE)
    assert (first["deliveries_failed"], second["deliveries_failed"]) == (1, 0)


def test_what_was_received_is_counted_with_its_bytes(db: Database) -> None:
    associate(db, "a")
    receive(db, "1.0", "a")
    with db.read() as connection:
        since = samples.start(connection, NOW)
    receive(db, "1.1", "a")
    receive(db, "1.2", "a")
    with db.read() as connection:
        first, since = samples.count(connection, since, NOW)
        second, _ = samples.count(connection, since, NOW)
    assert (first["instances_received"], first["bytes_received"]) == (2, 2)
    assert (second["instances_received"], second["bytes_received"]) == (0, 0)
    assert first["studies_waiting"] == 1, "what arrives waits, too"


def test_a_week_is_kept_in_order(db: Database) -> None:
    for number in range(3):
        samples.add(db, {"studies_waiting": float(number)}, NOW + number * FIVE)
    samples.add(db, {"studies_waiting": 99.0}, NOW)  # this moment has one already
    assert samples.forget(db, NOW + FIVE) == 1
    with db.read() as connection:
        found = samples.series(connection, "studies_waiting", NOW)
    assert found == [Sample(NOW + FIVE, 1.0), Sample(NOW + 2 * FIVE, 2.0)]
