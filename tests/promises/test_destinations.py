"""FT-30, FT-31, FT-32: a destination that is down, slow or says no; only what failed goes again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import evt

from appliance.errors import AssociationFailed
from appliance.index.deliveries import Delivery, Sent
from appliance.router.ending import DELIVERED, GIVE_UP, RETRY, Attempt, decide
from appliance.settings import Router
from tests.kit import dicom
from tests.kit.peers import Pacs
from tests.service.router.bench import Bench, scp, sop_uids, uids
from tests.service.router.test_peers import peer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CT = (CTImageStorage, ExplicitVRLittleEndian)
REFUSALS = {
    (1, 1, 1): "no reason given", (1, 1, 2): "application context name not supported",
    (1, 1, 3): "calling AE title not recognised", (1, 1, 7): "called AE title not recognised",
    (1, 2, 1): "no reason given by the association service",
    (1, 2, 2): "protocol version not supported",
    (2, 1, 1): "no reason given", (2, 3, 1): "temporary congestion",
    (2, 3, 2): "local limit exceeded",
}  # fmt: skip


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "node")
    yield made
    made.stop()
    made.db.close()


def delivery() -> Delivery:
    return Delivery(
        id=5, job_id=1, destination="pacs", what="output", rule="r", state="sending", attempt=1,
        router="h/1/1.0", ended_at=None, message="", remedy="", created_at=NOW, due_at=NOW,
        lease_until=NOW, started_at=NOW,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("down", "most_tries", "latest"),
    [
        (timedelta(seconds=1), 2, timedelta(seconds=37)),
        (timedelta(hours=1), 10, timedelta(hours=2, minutes=15)),
        (timedelta(days=1), 40, timedelta(days=1, minutes=72)),
        (timedelta(days=30), 220, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_ft_30_what_waits_for_a_destination_goes_soon_after_it_is_back(
    down: timedelta, most_tries: int, latest: timedelta | None, chance: float
) -> None:
    """The rules alone, over weeks: each attempt is at the moment that the last one named."""
    peer_down = AssociationFailed("PACS refused the connection.", remedy="start it")
    waiting = [Sent("1.2", "waiting", None, "", None)]
    one, now, tries, moves = delivery(), NOW, 0, []
    while True:
        tries += 1
        is_up = now - NOW >= down
        seen = [Sent("1.2", "sent", 0, "", now)] if is_up else waiting
        attempt = Attempt("PACS", seen, int(is_up), None if is_up else peer_down)
        end = decide(one, attempt, Router(), now, chance)
        moves.append(end.move)
        if end.move != RETRY:
            break
        assert end.due_at is not None
        assert end.due_at > now, "no busy loop"
        now, one = end.due_at, replace(one, attempt=one.attempt + 1)
    assert tries <= most_tries
    if latest is None:
        assert end.move == GIVE_UP
        assert now - NOW == timedelta(days=7)
        assert "brookbox deliveries resend 5" in end.remedy
    else:
        assert (end.move, moves.count(GIVE_UP)) == (DELIVERED, 0)
        assert now - NOW <= latest


def test_ft_30_it_goes_on_over_a_restart_of_the_router(router: Bench, tmp_path: Path) -> None:
    pacs = Pacs(tmp_path / "pacs", "PACS0")
    router.route_to(pacs.port)
    study = dicom.ct_study(2)
    router.ended_job(study)
    router.start()
    router.wait_for("due", attempt=1)
    router.kill()
    router.start()
    [due] = router.wait_for("due", attempt=2)
    assert due.ended_at is None
    pacs.start()
    try:
        [done] = router.wait_for("delivered", seconds=60)
        assert done.id == due.id
        assert uids(pacs.folder) == sop_uids(study)
    finally:
        pacs.stop()


def test_ft_32_each_reason_of_a_refusal_is_for_good_or_for_now(router: Bench) -> None:
    """One destination for each reason; all say no at once, and no one delays another."""
    with ExitStack() as stack:
        ports = []
        for result, source, reason in REFUSALS:
            pdu = bytes([3, 0, 0, 0, 0, 4, 0, result, source, reason])
            ports.append(
                stack.enter_context(
                    peer(lambda one, pdu=pdu: bool(one.recv(65536)) and one.sendall(pdu))
                )
            )
        router.route_to(*ports)
        router.ended_job(dicom.ct_study(1))
        router.start()
        for_good = [code for code in REFUSALS if code[0] == 1]
        router.wait_for("gave_up", len(for_good), seconds=60)
        router.wait_for("due", len(REFUSALS) - len(for_good), attempt=2, seconds=60)
    by_name = {one.destination: one for one in router.deliveries()}
    for number, (code, words) in enumerate(REFUSALS.items()):
        one = by_name[f"p{number}"]
        assert one.state == ("gave_up" if code[0] == 1 else "due"), code
        assert words in one.message, (code, one.message)
        assert "({},{},{})".format(*code) in one.message
        assert (one.attempt == 1) == (code[0] == 1)


STATUSES = {
    0xA700: "again", 0x0110: "again", 0x0213: "again",
    0xA900: "given up", 0xC000: "given up", 0x0122: "given up",
    0xB000: "warned", 0xB007: "warned",
}  # fmt: skip


def test_ft_32_each_status_of_an_instance_is_for_good_for_now_or_a_warning(router: Bench) -> None:
    """The second of three instances is answered with the status, the first time it comes."""
    study = dicom.ct_study(3)
    second = study[1].SOPInstanceUID
    with ExitStack() as stack:
        asked: dict[int, list[str]] = {}
        ports = []
        for status in STATUSES:
            seen: list[str] = []

            def answer(event: evt.Event, status: int = status, seen: list[str] = seen) -> int:
                uid = str(event.request.AffectedSOPInstanceUID)
                seen.append(uid)
                return status if uid == second and seen.count(uid) == 1 else 0x0000

            port, _ = stack.enter_context(scp(answer, CT))
            asked[status] = seen
            ports.append(port)
        router.route_to(*ports)
        router.ended_job(study)
        router.start()
        given_up = [status for status, what in STATUSES.items() if what == "given up"]
        router.wait_for("gave_up", len(given_up), seconds=60)
        router.wait_for("delivered", len(STATUSES) - len(given_up), seconds=60)
    by_name = {one.destination: one for one in router.deliveries()}
    for number, (status, what) in enumerate(STATUSES.items()):
        one = by_name[f"p{number}"]
        assert one.state == ("gave_up" if what == "given up" else "delivered"), hex(status)
        again = asked[status][3:]
        assert again == ([second] if what == "again" else []), "only what failed goes again"
        if what != "again":
            assert f"0x{status:04X}" in one.message
        [told] = [sent for sent in router.instances(one.id) if sent.sop_instance_uid == second]
        assert told.state == {"again": "sent", "given up": "failed", "warned": "warning"}[what]


@pytest.mark.parametrize("aborted_at", [1, 3])
def test_ft_32_after_an_abort_only_what_was_not_answered_goes_again(
    router: Bench, aborted_at: int
) -> None:
    came: list[str] = []

    def answer(event: evt.Event) -> int:
        came.append(str(event.request.AffectedSOPInstanceUID))
        if len(came) == aborted_at:
            event.assoc.abort()
        return 0x0000

    study = dicom.ct_study(3)
    with scp(answer, CT) as (port, _):
        router.route_to(port)
        router.ended_job(study)
        router.start()
        [done] = router.wait_for("delivered", seconds=60)
    assert done.attempt == 2
    assert set(came) == set(sop_uids(study))
    assert len(came) == 4, "the one whose answer was lost goes twice, the others once"
