"""Other content under a known UID, and what claims another's study, as the senders see it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from appliance.disk import quarantine
from appliance.disk.quarantine import Kind
from appliance.index import catalog
from tests.kit import peers
from tests.kit.dicom import ct_slice, ct_study, write, write_study
from tests.kit.waiting import wait_for
from tests.promises.receiving import put_aside, send, set_rules, violations
from tests.service.conftest import Receiver


@pytest.fixture
def rules(shared_receiver: Receiver) -> Iterator[Receiver]:
    """The receiver, whose settings are as before at the end."""
    yield shared_receiver
    set_rules(shared_receiver)


@pytest.mark.parametrize(
    ("policy", "status", "kind"),
    [
        ("keep-first", 0x0000, Kind.CONFLICT),
        ("refuse", 0x0124, Kind.CONFLICT),
        ("replace", 0x0000, Kind.REPLACED),
    ],
)
def test_bi_02_other_content_is_answered_by_the_policy_and_nothing_is_lost(
    rules: Receiver, tmp_path: Path, policy: str, status: int, kind: Kind
) -> None:
    ds = ct_slice()
    first = write(ds, tmp_path / "first.dcm")
    ds.PatientComments = "other"
    second = write(ds, tmp_path / "second.dcm")
    assert send(rules, first).Status == 0x0000
    rules.digested()
    before = rules.instance(ds.SOPInstanceUID)
    assert before is not None
    set_rules(rules, on_conflict=policy)
    answer = send(rules, second)
    assert answer.Status == status
    if status:
        assert 0 < len(answer.ErrorComment) <= 64
    (entry,) = put_aside(rules, ds.SOPInstanceUID)
    assert (entry.kind, entry.status, entry.calling_ae_title) == (kind, status, "CT1")
    after = rules.instance(ds.SOPInstanceUID)
    assert after is not None
    kept, aside = (first, second) if policy != "replace" else (second, first)
    assert comments(rules.layout.root / after.path) == comments(kept)
    assert comments(quarantine.file_of(rules.layout, entry.id)) == comments(aside)
    assert (after == before) is (policy != "replace")
    acknowledged = [first] if status else [first, second]
    assert violations(rules, *acknowledged) == []
    # The very same again is no conflict.
    assert send(rules, kept).Status == 0x0000
    assert len(put_aside(rules, ds.SOPInstanceUID)) == 1


@pytest.mark.parametrize(("policy", "status"), [("keep-first", 0x0000), ("refuse", 0x0124)])
@pytest.mark.parametrize("kind", [Kind.CONFLICT, Kind.HELD])
def test_bi_02_what_is_sent_each_night_is_one_entry_that_counts(
    rules: Receiver, tmp_path: Path, policy: str, status: int, kind: Kind
) -> None:
    set_rules(rules, on_conflict=policy)
    ds = ct_slice()
    first = write(ds, tmp_path / "first.dcm")
    assert send(rules, first).Status == 0x0000
    if kind is Kind.HELD:
        ds = ct_slice(study_uid=ds.StudyInstanceUID, patient_id="P-2")
    ds.PatientComments = "other"
    second = write(ds, tmp_path / "second.dcm")
    for times in (1, 2, 3):
        report = peers.storescu([second], rules.port, "ECHO", calling="CT1")
        assert (report.acknowledged == [second]) is (status == 0)
        (entry,) = put_aside(rules, ds.SOPInstanceUID)
        assert (entry.kind, entry.status, entry.times) == (kind, status, times)
    assert entry.last_at is not None and entry.last_at > entry.received_at
    assert violations(rules, *([first] if status else [first, second])) == []
    # A file that lost its end is not relied on: what comes is kept whole, beside it.
    broken = quarantine.file_of(rules.layout, entry.id)
    broken.write_bytes(broken.read_bytes()[:-100])
    assert send(rules, second).Status == status
    whole, _ = put_aside(rules, ds.SOPInstanceUID)
    assert comments(quarantine.file_of(rules.layout, whole.id)) == "other"
    quarantine.remove(rules.layout, entry.id)
    assert violations(rules, *([first] if status else [first, second])) == []


def comments(path: Path) -> str:
    return str(pydicom.dcmread(path).get("PatientComments", ""))


@pytest.mark.parametrize(("policy", "status"), [("keep-first", 0x0000), ("refuse", 0x0124)])
@pytest.mark.parametrize("what", ["another patient", "another study"])
def test_bi_02_what_claims_the_uids_of_others_never_joins(
    rules: Receiver, tmp_path: Path, policy: str, status: int, what: str
) -> None:
    set_rules(rules, on_conflict=policy)
    study = ct_study(2)
    files = write_study(study, tmp_path / "study")
    assert len(peers.storescu(files, rules.port, "ECHO").acknowledged) == 2
    if what == "another patient":
        strangers = ct_study(3, study_uid=study[0].StudyInstanceUID, patient_id="P-2")
    else:
        strangers = ct_study(3, series_uid=study[0].SeriesInstanceUID)
    came = write_study(strangers, tmp_path / "strangers")
    report = peers.storescu(came, rules.port, "ECHO", calling="MR1")
    assert len(report.acknowledged) == (0 if status else 3)
    for ds in strangers:
        assert rules.instance(ds.SOPInstanceUID) is None
        (entry,) = put_aside(rules, ds.SOPInstanceUID)
        assert (entry.kind, entry.status, entry.calling_ae_title) == (Kind.HELD, status, "MR1")
        assert what in entry.reason
    with rules.db.read() as connection:
        kept = catalog.find_study(connection, study[0].StudyInstanceUID)
        assert len(catalog.instances_of_study(connection, study[0].StudyInstanceUID)) == 2
        if what == "another study":
            assert catalog.find_study(connection, strangers[0].StudyInstanceUID) is None
    assert kept is not None
    assert kept.patient_id == "P-SEEDED-1"
    uid = strangers[0].StudyInstanceUID
    (event,) = [one for one in rules.events("instance held") if one.study_uid == uid]
    assert "P-2" not in event.sentence + event.facts
    arrived = {one.study_uid: one.calling_ae_titles for one in rules.open_arrivals()}
    assert arrived.get(study[0].StudyInstanceUID) == {"CT1"}
    if what == "another study":
        assert uid not in arrived
    if not status:
        told = wait_for(
            lambda: [one for one in rules.events("association closed") if one.who == "MR1"],
            "the association's event",
        )
        assert any("held in quarantine" in one.sentence for one in told)
    assert violations(rules, *files, *report.acknowledged) == []


def test_bi_02_two_patients_at_once_under_one_study_uid_do_not_mix(
    shared_receiver: Receiver, tmp_path: Path
) -> None:
    mine = ct_study(4, patient_id="P-1")
    theirs = ct_study(4, study_uid=mine[0].StudyInstanceUID, patient_id="P-2")
    sent = {
        calling: write_study(study, tmp_path / calling)
        for calling, study in (("CT1", mine), ("CT2", theirs))
    }
    with ThreadPoolExecutor(2) as pool:
        port = shared_receiver.port
        reports = list(
            pool.map(lambda calling: peers.storescu(sent[calling], port, "ECHO", calling), sent)
        )
    assert [len(report.acknowledged) for report in reports] == [4, 4]
    shared_receiver.settle()
    with shared_receiver.db.read() as connection:
        kept = catalog.instances_of_study(connection, mine[0].StudyInstanceUID)
    uids = {one.sop_instance_uid for one in kept}
    assert uids in [{ds.SOPInstanceUID for ds in study} for study in (mine, theirs)]
    assert violations(shared_receiver, *sent["CT1"], *sent["CT2"]) == []
