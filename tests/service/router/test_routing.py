"""What is sent where: rules, held and superseded jobs, senders, destinations that are gone."""

from __future__ import annotations

from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
)

from appliance.index import jobs
from appliance.index.attempts import Finish
from tests.kit import dicom
from tests.kit.peers import Pacs
from tests.kit.waiting import free_port, wait_for
from tests.service.router.bench import Bench, scp, sop_uids, uids

CT = (CTImageStorage, ExplicitVRLittleEndian)


def test_nothing_is_delivered_without_a_rule_and_the_job_says_so(bench: Bench) -> None:
    bench.start()
    job = bench.wait_until_routed(bench.ended_job(dicom.ct_study(1)))
    assert job.routing_note == "There are no routing rules: the results stay on this node."
    assert bench.deliveries() == []


def test_jobs_wait_while_the_rules_were_never_good(bench: Bench, pacs: Pacs) -> None:
    pacs.start()
    bench.route("rules: 5\n")
    bench.start()
    job_id = bench.ended_job(dicom.ct_study(1))
    wait_for(lambda: "routing.yaml is wrong" in bench.log(), "the mistake is logged")
    assert bench.job(job_id).routed_at is None
    bench.route_to(pacs.port)
    bench.ring()
    bench.wait_for("delivered")


def test_a_held_job_waits_for_a_person(bench: Bench, pacs: Pacs) -> None:
    pacs.start()
    bench.route_to(pacs.port)
    bench.start()
    held = bench.ended_job(dicom.ct_study(1), is_held=True)
    bench.wait_until_routed(bench.ended_job(dicom.ct_study(1)))
    assert bench.job(held).routed_at is None
    jobs.release(bench.db, held)
    bench.ring()
    bench.wait_for("delivered", 2)


def test_a_superseded_job_is_not_delivered(bench: Bench) -> None:
    down = free_port()
    bench.route_to(down)
    first = dicom.ct_study(1)
    older = bench.ended_job(first)
    bench.start()
    bench.wait_for("due", attempt=1)
    newer = bench.ended_job(dicom.ct_study(1, study_uid=first[0].StudyInstanceUID))
    [stopped] = bench.wait_for("gave_up")
    assert (stopped.job_id, bench.job(older).superseded_by) == (older, newer)
    assert "superseded" in stopped.message


def test_a_failed_job_is_routed_by_its_outcome_and_again_when_it_was_retried(
    bench: Bench, pacs: Pacs
) -> None:
    pacs.start()
    known = {"p": {"ae_title": "PACS0", "host": "127.0.0.1", "port": pacs.port}}
    rules = [{"name": "r", "outcome": ["failed", "success"], "to": "p"}]
    bench.route({"destinations": known, "rules": rules})
    bench.start()
    study = dicom.ct_study(2)
    job_id = bench.ended_job(study[:1], outcome="failed")
    bench.wait_for("delivered")
    jobs.retry(bench.db, job_id, bench.job(job_id).created_at)
    bench.keep(study[1], job_id)
    bench.finish(job_id, Finish("success"))
    wait_for(lambda: uids(pacs.folder) == sop_uids(study), "the second result arrives", 20)
    assert len(bench.deliveries()) == 1


def test_results_go_back_to_the_sender_that_is_known(bench: Bench, pacs: Pacs) -> None:
    pacs.start()
    known = {"ct": {"ae_title": "PACS0", "host": "127.0.0.1", "port": pacs.port}}
    rules = [{"name": "back", "to": "back-to-sender"}]
    bench.route({"destinations": known, "rules": rules})
    bench.start()
    ours, strange = dicom.ct_study(1), dicom.ct_study(1)
    bench.received(ours[0].StudyInstanceUID, "PACS0", "127.0.0.1")
    bench.received(strange[0].StudyInstanceUID, "PACS0", "10.9.9.9")
    bench.ended_job(ours)
    other = bench.wait_until_routed(bench.ended_job(strange))
    bench.wait_for("delivered")
    assert uids(pacs.folder) == sop_uids(ours)
    assert "PACS0 at 10.9.9.9 has the AE title of destination ct, but not its host" in (
        other.routing_note
    )


def test_rules_with_tags_send_what_has_them(bench: Bench, pacs: Pacs) -> None:
    pacs.start()
    known = {"p": {"ae_title": "PACS0", "host": "127.0.0.1", "port": pacs.port}}
    rules = [{"name": "r", "to": "p", "tags": [{"Modality": "OT", "ImageType": "PRIMARY"}]}]
    bench.route({"destinations": known, "rules": rules})
    slices = dicom.ct_study(2)
    capture = dicom.secondary_capture(slices[0])
    bench.ended_job([*slices, capture])
    bench.start()
    bench.wait_for("delivered")
    assert uids(pacs.folder) == [capture.SOPInstanceUID]


def test_a_destination_that_was_taken_away_is_given_up_with_a_remedy(bench: Bench) -> None:
    bench.route_to(free_port())
    bench.ended_job(dicom.ct_study(1))
    bench.start()
    bench.wait_for("due", attempt=1)
    bench.route("rules: []\n")
    [delivery] = bench.wait_for("gave_up")
    assert delivery.message == "There is no destination p0 in routing.yaml any more."
    assert "add it again" in delivery.remedy


def test_no_name_of_a_patient_is_logged(bench: Bench) -> None:
    with scp(lambda event: 0xC000, CT) as (port, _):
        bench.route_to(port)
        bench.ended_job(dicom.ct_study(1))
        bench.start()
        bench.wait_for("gave_up")
    assert "Seeded" not in bench.log()
    assert "SEEDED" not in bench.log()
