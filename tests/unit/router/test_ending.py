"""An attempt ends as what the peer said demands: done, later, or given up loudly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from appliance.errors import AssociationFailed
from appliance.index.deliveries import Delivery, Sent
from appliance.router.ending import DELIVERED, GIVE_UP, RETRY, Attempt, End, decide, pause
from appliance.router.store_scu import FAILED, LATER, SENT, WARNING, kind_of
from appliance.settings import Router

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PEER = "PACS at 10.1.2.3:104"
ROUTER = Router()
DOWN = AssociationFailed(f"{PEER} refused the connection.", remedy="start it")
NEVER = AssociationFailed(f"{PEER} refused the association.", remedy="enter it", is_permanent=True)


def delivery(attempt: int = 1, age: timedelta = timedelta()) -> Delivery:
    times = {"created_at": NOW - age, "due_at": NOW, "lease_until": NOW, "started_at": NOW}
    return Delivery(
        id=5, job_id=1, destination="pacs", what="output", rule="r", state="sending",
        attempt=attempt, router="h/1/1.0", ended_at=None, message="", remedy="", **times,
    )  # fmt: skip


def one(state: str, status: int | None = None, message: str = "") -> Sent:
    return Sent("1.2", state, status, message, NOW)


def judge(*instances: Sent, problem: AssociationFailed | None = None, **facts: object) -> End:
    attempt = Attempt(PEER, instances, 0, problem, bool(facts.get("is_stopped")))
    age = facts.get("age", timedelta())
    assert isinstance(age, timedelta)
    return decide(delivery(age=age), attempt, ROUTER, NOW, 0.5)


def test_all_sent_is_delivered_and_warnings_are_told() -> None:
    end = judge(one("sent", 0), one("warning", 0xB000))
    assert end.move == DELIVERED
    assert end.message.startswith(f"2 instances were sent to {PEER}. 1 with a warning: 0xB000")


def test_what_is_left_for_good_gives_up_and_names_the_statuses() -> None:
    end = judge(one("sent", 0), one("failed", 0xC000), one("failed", 0xA900))
    assert end.move == GIVE_UP
    assert "2 of 3 instances were refused for good" in end.message
    assert "0xC000" in end.message
    assert "0xA900" in end.message
    assert end.remedy.endswith("brookbox deliveries resend 5")


def test_what_may_be_taken_later_is_tried_again() -> None:
    end = judge(one("sent", 0), one("waiting", 0xA700), one("failed", 0xC000))
    assert (end.move, end.due_at) == (RETRY, NOW + timedelta(seconds=30))
    assert "0xA700" in end.message
    assert "1 of 3 instances wait for 2026-01-02 03:04:35 UTC." in end.message


def test_a_refusal_for_good_gives_up_at_once() -> None:
    end = judge(one("waiting"), problem=NEVER)
    assert end.move == GIVE_UP
    assert end.message == f"{PEER} refused the association. 1 of 1 instance was not sent."
    assert end.remedy == "enter it; then: brookbox deliveries resend 5"


def test_ft_30_a_destination_that_is_down_is_tried_until_it_is_too_old() -> None:
    assert judge(one("waiting"), problem=DOWN).move == RETRY
    old = judge(one("waiting"), problem=DOWN, age=timedelta(days=7))
    assert old.move == GIVE_UP
    assert "in 7 days" in old.message
    nearly = judge(one("waiting"), problem=DOWN, age=timedelta(days=7, seconds=-5))
    assert nearly.due_at == NOW + timedelta(seconds=5)


def test_a_stop_of_the_node_costs_nothing() -> None:
    end = judge(one("waiting"), problem=DOWN, is_stopped=True)
    assert (end.move, end.due_at) == (RETRY, NOW)


def test_the_comment_of_the_peer_stays_out_of_the_sentence() -> None:
    comment = '0xC000 error ("unknown patient SEEDED^NAME")'
    assert "SEEDED" not in judge(one("failed", 0xC000, comment)).message


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600), (5000, 3600)]
)
def test_ft_30_pauses_double_from_30_seconds_to_an_hour(attempt: int, seconds: float) -> None:
    old = timedelta(days=2)
    assert pause(attempt, old, False, ROUTER, 0.5) == timedelta(seconds=seconds)
    assert pause(attempt, old, False, ROUTER, 0.0) == timedelta(seconds=seconds * 0.8)
    assert pause(attempt, old, False, ROUTER, 1.0) == timedelta(seconds=seconds * 1.2)


def test_pauses_begin_anew_when_a_person_resends_or_something_went_over() -> None:
    assert pause(9, timedelta(0), False, ROUTER, 0.5) == timedelta(seconds=30)
    assert pause(9, timedelta(days=1), True, ROUTER, 0.5) == timedelta(seconds=30)


def test_pauses_double_from_the_creation_too() -> None:
    age, told = 0.0, []
    for attempt in range(1, 8):
        seconds = pause(attempt, timedelta(seconds=age), False, ROUTER, 0.5).total_seconds()
        told.append(seconds)
        age += seconds
    assert told == [30, 60, 120, 240, 480, 960, 1920]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, SENT), (0xB000, WARNING), (0xB006, WARNING), (0xB007, WARNING),
        (0x0107, WARNING), (0x0111, WARNING), (0xA700, LATER), (0xA7FF, LATER),
        (0x0110, LATER), (0x0210, LATER), (0x0213, LATER), (0xA900, FAILED),
        (0xC000, FAILED), (0xCFFF, FAILED), (0x0117, FAILED), (0x0122, FAILED),
        (0x0124, FAILED), (0x0211, FAILED), (0x0212, FAILED), (0x9999, FAILED),
    ],
)  # fmt: skip
def test_ft_32_each_status_has_its_consequence(status: int, kind: str) -> None:
    assert kind_of(status) == kind
