"""The router against real peers: what is sent, what is told, what is sent again."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pydicom
import pytest
import sqlalchemy as sa
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import _config, evt

from appliance.index import deliveries, events
from appliance.index import schema as t
from appliance.router.sending import Sending
from tests.kit import dicom
from tests.kit.peers import Pacs
from tests.kit.waiting import wait_for
from tests.service.router.bench import Bench, scp, sop_uids, uids
from tests.service.router.deaf import DeafAfterAccept

CT = (CTImageStorage, ExplicitVRLittleEndian)
SC = (SecondaryCaptureImageStorage, ExplicitVRLittleEndian)


def test_results_arrive_byte_for_byte_without_a_trace_of_their_senders(
    bench: Bench, pacs: Pacs
) -> None:
    pacs.start()
    bench.route_to(pacs.port)
    study = dicom.ct_study(5)
    job_id = bench.ended_job(study)
    bench.start()
    [delivery] = bench.wait_for("delivered")
    assert delivery.message == f"5 instances were sent to PACS0 at 127.0.0.1:{pacs.port}."
    assert [one.state for one in bench.instances(delivery.id)] == ["sent"] * 5
    assert uids(pacs.folder) == sop_uids(study)
    kept = {one.name: one for one in bench.layout.studies.rglob("*.dcm")}
    for file in pacs.files():
        uid = pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID
        sent = kept[f"{uid}.dcm"].read_bytes()
        assert file.read_bytes().endswith(sent[sent.index(b"\x08\x00\x05\x00") :])
    assert bench.job(job_id).routing_note == "To be delivered: 5 output to p0 (rule all)."
    with bench.db.read() as connection:
        assert events.latest(connection, 1)[0].kind == "delivery delivered"


def test_ft_30_a_pacs_that_is_down_gets_it_when_it_is_up(bench: Bench, pacs: Pacs) -> None:
    bench.route_to(pacs.port)
    study = dicom.ct_study(3)
    bench.ended_job(study)
    bench.start()
    [delivery] = bench.wait_for("due", attempt=2)
    assert delivery.message.startswith(
        f"PACS0 at 127.0.0.1:{pacs.port} refused the connection: nothing listens on that port."
    )
    assert "start that node" in delivery.remedy
    pacs.start()
    bench.wait_for("delivered")
    assert uids(pacs.folder) == sop_uids(study)


def test_ft_30_after_an_outage_one_that_gets_through_wakes_the_others(
    bench: Bench, pacs: Pacs
) -> None:
    bench.route_to(pacs.port)
    studies = [dicom.ct_study(1), dicom.ct_study(1)]
    for study in studies:
        bench.ended_job(study)
    bench.start()
    [first, _] = bench.wait_for("due", 2, attempt=1)
    later = datetime.now(UTC) + timedelta(hours=1)
    with bench.db.write() as connection:
        longest = sa.update(t.deliveries).where(t.deliveries.c.id == first.id)
        connection.execute(longest.values(due_at=later, state="due"))
    pacs.start()
    bench.wait_for("delivered", 2)
    assert uids(pacs.folder) == sorted(sop_uids(studies[0]) + sop_uids(studies[1]))


def test_ft_32_a_refused_association_is_told_in_the_words_of_the_standard(
    bench: Bench, pacs: Pacs
) -> None:
    pacs.start("--refuse")
    bench.route_to(pacs.port)
    bench.ended_job(dicom.ct_study(1))
    bench.start()
    [delivery] = bench.wait_for("gave_up")
    assert "refused the association: no reason given, for good (1,1,1)" in delivery.message
    assert f"brookbox deliveries resend {delivery.id}" in delivery.remedy
    assert [one.state for one in bench.instances(delivery.id)] == ["failed"]
    assert '"level": "error"' in bench.log()


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_ft_32_an_abort_is_tried_again(bench: Bench, pacs: Pacs, option: str) -> None:
    pacs.start(option)
    bench.route_to(pacs.port)
    study = [dicom.ct_slice(size=512, study_uid="1.2.3.4") for _ in range(2)]
    bench.ended_job(study)
    bench.start()
    [delivery] = bench.wait_for("due", attempt=1)
    assert "aborted the association" in delivery.message or "closed" in delivery.message
    pacs.stop()
    pacs.start()
    bench.wait_for("delivered")
    assert uids(pacs.folder) == sop_uids(study)


def test_ft_32_only_what_failed_for_a_while_is_sent_again(bench: Bench) -> None:
    count = 0

    def every_third(event: evt.Event) -> int:
        nonlocal count
        count += 1
        return 0xA700 if count % 3 == 0 and count <= 9 else 0x0000

    with scp(every_third, CT) as (port, asked):
        bench.route_to(port)
        bench.ended_job(dicom.ct_study(9))
        bench.start()
        [delivery] = bench.wait_for("delivered")
        assert delivery.attempt == 2
        assert sorted(asked[9:]) == sorted(asked[2:9:3])


def test_ft_32_what_failed_for_good_is_not_sent_again_until_a_person_says_so(bench: Bench) -> None:
    answers = {0: 0xC000, 1: 0xA700, 2: 0xB000}
    order: list[str] = []

    def answer(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if uid in order:
            return 0
        order.append(uid)
        return answers.get(order.index(uid), 0)

    with scp(answer, CT) as (port, asked):
        bench.route_to(port)
        bench.ended_job(dicom.ct_study(4))
        bench.start()
        [delivery] = bench.wait_for("gave_up")
        assert len(asked) == 5
        states = {one.sop_instance_uid: one for one in bench.instances(delivery.id)}
        assert states[order[0]].state == "failed"
        assert states[order[0]].status == 0xC000
        assert "cannot understand" in states[order[0]].message
        assert states[order[1]].state == "sent"
        assert states[order[2]].state == "warning"
        assert "1 of 4 instances were refused for good" in delivery.message
        deliveries.resend(bench.db, delivery.id, delivery.created_at)
        bench.ring()
        [delivery] = bench.wait_for("delivered")
        assert asked[5:] == [order[0]]
        assert "1 with a warning: 0xB000" in delivery.message


def test_ft_32_a_refused_context_fails_its_instances_by_name_and_the_rest_arrive(
    bench: Bench,
) -> None:
    with scp(lambda event: 0, CT) as (port, asked):
        bench.route_to(port)
        slices = dicom.ct_study(2)
        bench.ended_job([*slices, dicom.secondary_capture(slices[0])])
        bench.start()
        [delivery] = bench.wait_for("gave_up")
        assert sorted(asked) == sop_uids(slices)
        assert "PACS0 does not accept Secondary Capture Image Storage as Explicit VR" in (
            delivery.message
        )


def test_each_instance_goes_in_its_own_transfer_syntax(bench: Bench) -> None:
    syntaxes: list[str] = []

    def note(event: evt.Event) -> int:
        syntaxes.append(str(event.context.transfer_syntax))
        return 0

    implicit = (CTImageStorage, ImplicitVRLittleEndian)
    with scp(note, CT, implicit, SC) as (port, _):
        bench.route_to(port)
        slices = dicom.ct_study(2)
        bench.ended_job(slices[:1])
        bench.ended_job([*dicom.ct_study(1)], syntax=ImplicitVRLittleEndian)
        bench.start()
        bench.wait_for("delivered", 2)
    assert sorted(syntaxes) == [ImplicitVRLittleEndian, ExplicitVRLittleEndian]


def test_ft_31_a_destination_that_stops_reading_delays_no_other(bench: Bench, pacs: Pacs) -> None:
    pacs.start()
    with closing(socket.create_server(("127.0.0.1", 0))) as dead:  # accepts, and says nothing
        bench.route_to(dead.getsockname()[1], pacs.port, association_timeout_seconds=6)
        pacs_study = dicom.ct_study(2)
        bench.start()
        began = time.monotonic()
        bench.ended_job(pacs_study)
        [delivered] = bench.wait_for("delivered")
        assert delivered.destination == "p1"
        assert time.monotonic() - began < 5
        [waiting] = bench.wait_for("due", attempt=1)
        assert "did not answer within 6 s" in waiting.message


def test_ft_31_a_peer_that_takes_no_more_data_is_left_in_time(bench: Bench) -> None:
    with closing(DeafAfterAccept()) as deaf:
        bench.route_to(deaf.port, answer_timeout_seconds=1)
        bench.ended_job([dicom.ct_slice(size=2048)])
        bench.start()
        [delivery] = bench.wait_for("due", attempt=1)
        assert "did not take what was sent within 1 s" in delivery.message


def test_ft_31_a_slow_pacs_holds_only_its_own_places(bench: Bench, pacs: Pacs) -> None:
    free = threading.Event()

    def slowly(event: evt.Event) -> int:
        free.wait(20)
        return 0

    pacs.start()
    with scp(slowly, CT) as (port, asked):
        known = {
            "slow": {"ae_title": "SLOW", "host": "127.0.0.1", "port": port, "associations": 2},
            "quick": {"ae_title": "PACS0", "host": "127.0.0.1", "port": pacs.port},
        }
        rules = [{"name": "all", "to": ["slow", "quick"]}]
        bench.route({"destinations": known, "rules": rules})
        bench.start()
        for _ in range(4):
            bench.ended_job(dicom.ct_study(1))
        quick = bench.wait_for("delivered", 4)
        assert {one.destination for one in quick} == {"quick"}
        assert len(asked) == 2
        assert [one.destination for one in bench.deliveries("sending")] == ["slow"] * 2
        free.set()
        bench.wait_for("delivered", 8)


def test_ft_31_a_place_is_free_when_the_ring_of_its_end_is_heard(bench: Bench) -> None:
    """Otherwise the next delivery waits until the router looks by itself, ten seconds later."""
    bench.route({"destinations": {}, "rules": []})
    job_id = bench.ended_job(dicom.ct_study(1))
    now = datetime.now(UTC)
    with bench.db.write() as connection:
        facts = {"rule": "all", "destination": "gone", "what": "output", "now": now}
        deliveries.create(connection, job_id=job_id, instances=("1.2.3",), **facts)
    delivery = deliveries.claim_due(
        bench.db, busy=set(), router="h/1/1.0", lease=timedelta(60), now=now
    )
    assert delivery is not None
    held_a_place: list[bool] = []
    sending = Sending(
        bench.db, bench.settings, delivery, None, lambda: held_a_place.append(sending.is_running)
    )
    assert sending.is_running
    sending.start()
    sending.join(20)
    assert held_a_place == [False]


def test_ft_20_a_router_killed_in_mid_c_store_goes_on_where_it_was(bench: Bench) -> None:
    gate = threading.Event()

    def third_waits(event: evt.Event) -> int:
        if len(set(asked)) == 3 and not gate.is_set():
            gate.wait(20)
        time.sleep(0.45)
        return 0

    study = dicom.ct_study(6)
    with scp(third_waits, CT) as (port, asked):
        bench.route_to(port)
        bench.ended_job(study)
        bench.start()
        wait_for(lambda: len(asked) == 3, "the third C-STORE has come")
        [sending] = bench.deliveries("sending")
        bench.kill()
        assert bench.deliveries("sending")[0].id == sending.id
        gate.set()
        bench.start()
        [delivery] = bench.wait_for("delivered")
        assert delivery.attempt == 2
        assert set(asked) == set(sop_uids(study))
        assert len(asked) <= 6 + 3
        assert [one.state for one in bench.instances(delivery.id)] == ["sent"] * 6


def test_a_stop_lets_the_instance_end_and_the_rest_go_on_at_the_next_start(bench: Bench) -> None:
    def slowly(event: evt.Event) -> int:
        time.sleep(0.5)
        return 0

    with scp(slowly, CT) as (port, asked):
        bench.route_to(port)
        bench.ended_job(dicom.ct_study(5))
        bench.start()
        wait_for(lambda: len(asked) == 2, "the second C-STORE has come")
        assert bench.stop() < 5
        [delivery] = bench.deliveries("due")
        assert "it goes on at its next start" in delivery.message
        bench.start()
        bench.wait_for("delivered")
        assert len(asked) == len(set(asked)) == 5


def test_instances_that_are_gone_are_told_and_the_rest_arrive(bench: Bench, pacs: Pacs) -> None:
    pacs.start()
    bench.route_to(pacs.port)
    study = dicom.ct_study(3)
    bench.ended_job(study)
    files = {one.name: one for one in bench.layout.studies.rglob("*.dcm")}
    files[f"{study[0].SOPInstanceUID}.dcm"].unlink()
    damaged = files[f"{study[1].SOPInstanceUID}.dcm"]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    bench.start()
    [delivery] = bench.wait_for("gave_up")
    assert uids(pacs.folder) == [study[2].SOPInstanceUID]
    assert "Its file is not on this node any more." in delivery.message
    assert "Its file is damaged" in delivery.message


def test_more_pairs_than_one_association_may_have_go_over_several(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", True)
    classes = [f"1.2.826.0.1.3680043.9.{n}" for n in range(1, 131)]
    study = dicom.ct_study(130, size=4)
    for ds, sop_class in zip(study, classes, strict=True):
        ds.SOPClassUID = sop_class
    opened: set[int] = set()

    def note(event: evt.Event) -> int:
        opened.add(event.assoc.requestor.port)
        return 0

    with scp(note, CT) as (port, asked):
        bench.route_to(port)
        bench.ended_job(study)
        bench.start()
        bench.wait_for("delivered")
        assert len(asked) == 130
        # Each SOP class is proposed in two uncompressed transfer syntaxes: 64 an association.
        assert len(opened) == 3
