"""An input that is replaced while it is sent goes out as it is then, in the same delivery."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt

from appliance.intake.arrived import Kept, Sender
from appliance.intake.take import Intake
from appliance.settings import Receiver
from tests.kit.dicom import ct_study, write
from tests.service.router.bench import Bench, scp

LITTLE, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
CONTEXTS = [(str(CTImageStorage), syntax) for syntax in (LITTLE, IMPLICIT)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "node")
    yield made
    made.stop()
    made.db.close()


def received(bench: Bench, ds: Dataset, syntax: str = LITTLE) -> Kept:
    """Take an instance in as the receiver does, with on_conflict: replace."""
    intake = Intake(bench.db, bench.layout, "BROOKBOX", lambda: Receiver(on_conflict="replace"))
    try:
        return intake.keep(
            write(ds, bench.home / "came.dcm", syntax),
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            transfer_syntax_uid=syntax,
            sender=Sender("ECHO", "CT1", "127.0.0.1", "a1"),
            level=None,
            now=datetime.now(UTC),
        )
    finally:
        intake.close()


def send_inputs(bench: Bench, study: dict[str, Dataset], port: int) -> None:
    """Start the router on a job that ended, whose inputs go to this port."""
    bench.route(
        {
            "destinations": {"p0": {"ae_title": "PACS0", "host": "127.0.0.1", "port": port}},
            "rules": [{"name": "all", "to": ["p0"], "what": "input"}],
        }
    )
    study_uid = next(iter(study.values())).StudyInstanceUID
    bench.ended_job([], study_uid=study_uid, inputs=tuple(study))
    bench.start()


@pytest.mark.parametrize("syntax", [LITTLE, IMPLICIT])
def test_bi_02_an_input_that_is_replaced_in_that_moment_is_sent_all_the_same(
    bench: Bench, syntax: str
) -> None:
    study = {str(ds.SOPInstanceUID): ds for ds in ct_study(3)}
    for ds in study.values():
        received(bench, ds)
    told: dict[str, str] = {}

    def answer(event: evt.Event) -> int:
        came = event.dataset
        if not told:  # the others wait for their turn in this association
            for uid in study.keys() - {str(came.SOPInstanceUID)}:
                study[uid].PatientComments = "newer"
                assert "took the place" in received(bench, study[uid], syntax).note
        told[str(came.SOPInstanceUID)] = str(came.get("PatientComments", ""))
        return 0x0000

    with scp(answer, *CONTEXTS) as (port, asked):
        send_inputs(bench, study, port)
        [delivery] = bench.wait_for("delivered")
    assert delivery.attempt == 1
    assert sorted(asked) == sorted(study), "each is sent once"
    assert told == {uid: str(ds.get("PatientComments", "")) for uid, ds in study.items()}
    assert sorted(told.values()) == ["", "newer", "newer"]
    assert {one.state for one in bench.instances(delivery.id)} == {"sent"}


def test_an_input_that_is_gone_for_good_is_told_as_before(bench: Bench) -> None:
    study = {str(ds.SOPInstanceUID): ds for ds in ct_study(2)}
    for ds in study.values():
        received(bench, ds)

    def answer(event: evt.Event) -> int:
        for file in bench.layout.studies.rglob("*.dcm"):
            if file.stem != str(event.request.AffectedSOPInstanceUID):
                file.unlink()
        return 0x0000

    with scp(answer, *CONTEXTS) as (port, _):
        send_inputs(bench, study, port)
        [delivery] = bench.wait_for("gave_up")
    assert "Its file is not on this node any more." in delivery.message
    assert sorted(one.state for one in bench.instances(delivery.id)) == ["failed", "sent"]
