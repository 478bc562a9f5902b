"""Deliveries: each is claimed by one router, and each instance keeps its own status."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from appliance.dicom.header import Header
from appliance.errors import DeliveryError
from appliance.index import catalog, deliveries, destinations, jobs
from appliance.index.database import Database
from appliance.index.deliveries import Delivery, Sent
from tests.unit.index.test_moves_of_a_job import new_job

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE = timedelta(seconds=60)


def make(db: Database, destination: str = "pacs", uids: tuple[str, ...] = ("1.1", "1.2")) -> int:
    with db.write() as connection:
        for uid in uids:
            header = Header("1.2.840", uid, "1.2", "1.3", "1.2.840.10008.1.2.1")
            catalog.add_instance(
                connection,
                header,
                path=f"studies/{uid}",
                size_bytes=1,
                dataset_sha256="",
                now=NOW,
            )
        job_id = jobs.create(connection, new_job(), NOW)
        made = deliveries.create(
            connection,
            job_id=job_id,
            destination=destination,
            what="output",
            rule="all",
            instances=uids,
            now=NOW,
        )
    assert made is not None
    return made


def claim(db: Database, now: datetime = NOW, busy: tuple[str, ...] = ()) -> Delivery | None:
    return deliveries.claim_due(db, busy=busy, router="h/1/1", lease=LEASE, now=now)


def get(db: Database, delivery_id: int) -> Delivery:
    with db.read() as connection:
        return deliveries.get(connection, delivery_id)


def test_one_router_of_many_claims_a_delivery(db: Database) -> None:
    make(db)
    with ThreadPoolExecutor(8) as pool:
        claimed = [one for one in pool.map(lambda _: claim(db), range(8)) if one]
    assert len(claimed) == 1


def test_a_busy_destination_is_passed_over(db: Database) -> None:
    make(db, "slow")
    fast = make(db, "fast")
    claimed = claim(db, busy=("slow",))
    assert claimed is not None
    assert claimed.id == fast


def test_a_job_has_one_delivery_to_a_destination(db: Database) -> None:
    first = get(db, make(db))
    with db.write() as connection:
        assert (
            deliveries.create(
                connection,
                job_id=first.job_id,
                destination="pacs",
                what="output",
                rule="other",
                instances=("1.1",),
                now=NOW,
            )
            is None
        )


def test_only_what_was_not_sent_is_sent_again(db: Database) -> None:
    delivery_id = make(db)
    delivery = claim(db)
    assert delivery is not None
    deliveries.note_instances(
        db,
        delivery,
        [Sent("1.1", "sent", 0, "", NOW), Sent("1.2", "failed", 0xA700, "no room", NOW)],
    )
    assert deliveries.retry_at(db, delivery, NOW + LEASE, "later", "wait")
    assert claim(db) is None
    assert deliveries.next_due_at(db) == NOW + LEASE
    assert claim(db, NOW + LEASE) is not None
    with db.read() as connection:
        left = deliveries.to_send(connection, delivery_id)
    assert [one.sop_instance_uid for one in left] == ["1.2"]


def test_what_a_dead_router_was_sending_is_taken_back_and_its_words_count_no_more(
    db: Database,
) -> None:
    delivery_id = make(db)
    dead = claim(db)
    assert dead is not None
    assert deliveries.sending_routers(db) == {"h/1/1"}
    assert deliveries.take_back(db, NOW, ["h/1/1"]) == 1
    alive = claim(db)
    assert alive is not None
    assert deliveries.delivered(db, dead, "late", NOW) is False
    assert deliveries.renew(db, dead, LEASE, NOW) is False
    assert deliveries.delivered(db, alive, "done", NOW) is True
    assert get(db, delivery_id).message == "done"


def test_a_delivery_given_up_is_sent_again_when_a_person_asks(db: Database) -> None:
    delivery_id = make(db)
    delivery = claim(db)
    assert delivery is not None
    with pytest.raises(DeliveryError):
        deliveries.resend(db, delivery_id, NOW)
    deliveries.give_up(db, delivery, "refused", "ask the PACS", NOW)
    deliveries.resend(db, delivery_id, NOW)
    assert get(db, delivery_id).state == "due"


def test_what_is_due_of_a_superseded_job_is_not_sent(db: Database) -> None:
    delivery_id = make(db)
    with db.write() as connection:
        jobs.create(connection, new_job(input_digest="new"), NOW)
        assert deliveries.stop_superseded(connection, NOW) == 1
    assert get(db, delivery_id).state == "gave_up"
    assert "superseded" in get(db, delivery_id).message


def test_what_waits_for_a_destination_goes_at_once_when_it_is_back(db: Database) -> None:
    hour = NOW + timedelta(hours=1)
    away, refused, elsewhere = make(db), make(db), make(db, "other")
    for one in (away, refused, elsewhere):
        claimed = claim(db)
        assert claimed is not None and claimed.id == one
        if one == refused:  # 0xA700 for one instance: the destination was there
            out_of_resources = Sent("1.1", "waiting", 0xA700, "no room", NOW)
            deliveries.note_instances(db, claimed, [out_of_resources])
        else:  # it broke off in the middle
            deliveries.note_instances(db, claimed, [Sent("1.1", "waiting", None, "lost", NOW)])
        assert deliveries.retry_at(db, claimed, hour, "", "")
    assert destinations.is_back(db, "pacs", NOW) == 1
    assert get(db, away).due_at == NOW
    assert get(db, refused).due_at == get(db, elsewhere).due_at == hour
