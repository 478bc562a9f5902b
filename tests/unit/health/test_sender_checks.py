"""What the doctor says of senders that hide behind one address."""

from __future__ import annotations

from appliance.health.sender_checks import check_senders
from appliance.settings import Receiver, Settings


def test_behind_nat_the_doctor_says_that_rules_by_address_are_off_and_why() -> None:
    rules = Receiver(behind_nat=True, allow_addresses=("10.1.0.0/16",))
    (found,) = check_senders(Settings(receiver=rules))
    assert found.level == "warn"
    assert "come from one address" in found.sentence
    assert "receiver.allow_addresses (10.1.0.0/16) is not applied" in found.sentence
    assert "bridged" in found.remedy
    (found,) = check_senders(Settings(receiver=Receiver(behind_nat=True)))
    assert found.level == "ok" and "receiver.behind_nat" in found.sentence


def test_without_nat_the_doctor_says_nothing_of_addresses() -> None:
    rules = Receiver(allow_addresses=("10.1.0.0/16",))
    assert not list(check_senders(Settings(receiver=rules)))
