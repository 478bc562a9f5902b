"""Two patients under one Study Instance UID: when they are two for sure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.errors import Conflicts
from appliance.index import arrivals, catalog, events, retention, schema
from appliance.index.database import Database
from appliance.intake.arrived import Kept, Sender
from appliance.intake.identity import Patient, is_another_patient
from appliance.intake.take import Intake
from appliance.settings import Receiver
from tests.kit.dicom import ct_slice
from tests.unit.intake.given import LITTLE, NOW, bytes_of, count, stored, waiting


@pytest.mark.parametrize(
    ("kept", "came", "is_another"),
    [
        (("1", "A^B", "19700101"), ("1", "A^B", "19700101"), False),
        (("1", "A^B", "19700101"), ("2", "A^B", "19700101"), True),
        ((" 1 ", "A^B", ""), ("1", "A^B", ""), False),
        (("01", "A^B", ""), ("1", "A^B", ""), True),
        # One ID: a changed name alone is a marriage or a typing error.
        (("1", "Doe^Jane", "19700101"), ("1", "Smith^Jane", "19700101"), False),
        (("1", "Doe^Jane", "19700101"), ("1", "Roe^Max", "19801231"), True),
        (("1", "Doe^Jane", "19700101"), ("1", "Roe^Max", ""), False),
        (("1", "", "19700101"), ("1", "Roe^Max", "19801231"), False),
        # No ID on one side, or on both: the name is all there is.
        (("", "Doe^Jane", ""), ("2", "Roe^Max", ""), True),
        (("1", "Doe^Jane", ""), ("", "DOE^JANE^^ ", ""), False),
        (("", "Doe^Jane", ""), ("", "Roe^Max", ""), True),
        (("", "", ""), ("2", "Roe^Max", "19801231"), False),
        (("", "Doe ^ Jane", ""), ("", "doe^jane", ""), False),
        # Of the groups of a name those count that both have.
        (("", "Yamada^Tarou=山田^太郎", ""), ("", "YAMADA^TAROU", ""), False),
        (("", "Yamada^Tarou=山田^太郎", ""), ("", "=山本^太郎", ""), True),
        (("", "Yamada^Tarou", ""), ("", "=山本^太郎", ""), False),
    ],
)
def test_another_patient_is_one_for_sure(
    kept: tuple[str, str, str], came: tuple[str, str, str], is_another: bool
) -> None:
    assert is_another_patient(Patient(*kept), Patient(*came)) is is_another
    assert is_another_patient(Patient(*came), Patient(*kept)) is is_another


def of_study(study: Dataset, **facts: str) -> Dataset:
    """Make a further instance of a study, in a new series unless one is named."""
    ds = ct_slice(2, study_uid=study.StudyInstanceUID)
    for name, value in facts.items():
        setattr(ds, name, value)
    return ds


@pytest.mark.parametrize("what", ["patient", "series"])
def test_what_belongs_elsewhere_never_joins_and_is_held(
    db: Database, layout: Layout, send: Callable[..., Kept], what: str
) -> None:
    first = ct_slice()
    send(first)
    if what == "patient":
        strangers = [of_study(first, PatientID="P-2") for _ in range(2)]
    else:
        strangers = [ct_slice(series_uid=first.SeriesInstanceUID)]
    held = [send(ds, Sender("ECHO", "CT2", "10.0.0.8", "a2")) for ds in strangers]
    assert all(one.is_held and one.arrival_id is None and not one.is_new for one in held)
    assert len(stored(layout)) == count(db, schema.instances) == 1
    assert count(db, schema.studies) == count(db, schema.series) == 1
    assert count(db, schema.receptions) == 1
    assert [one.study_uid for one in arrivals.open_arrivals(db, NOW)] == [first.StudyInstanceUID]
    assert waiting(layout) == []
    found = quarantine.entries(layout)
    assert len(found) == len(strangers)
    assert {(one.kind, one.status, one.calling_ae_title) for one in found} == {
        (Kind.HELD, 0x0000, "CT2")
    }
    assert {one.sop_instance_uid for one in found} == {ds.SOPInstanceUID for ds in strangers}
    with db.read() as connection:
        (event,) = events.latest(connection, 10, kind="instance held")
    assert event.study_uid == strangers[0].StudyInstanceUID
    for name in ("Seeded", "P-2", "P-SEEDED"):
        assert name not in event.sentence + event.facts


def test_a_known_instance_with_another_patient_is_held_and_not_a_conflict(
    layout: Layout, send: Callable[..., Kept]
) -> None:
    ds = ct_slice()
    send(ds)
    ds.PatientID = "P-2"
    assert send(ds).is_held
    (entry,) = quarantine.entries(layout)
    assert entry.kind == Kind.HELD


def test_the_refusing_policy_tells_the_sender(
    db: Database, layout: Layout, intake_of: Callable[..., Callable[..., Kept]]
) -> None:
    send = intake_of(Receiver(on_conflict="refuse"))
    first = ct_slice()
    send(first)
    with pytest.raises(Conflicts, match="another patient") as told:
        send(of_study(first, PatientID="P-2"))
    assert told.value.status == 0x0124
    (entry,) = quarantine.entries(layout)
    assert (entry.kind, entry.status) == (Kind.HELD, 0x0124)
    assert (count(db, schema.receptions), waiting(layout)) == (1, [])


@pytest.mark.parametrize("what", ["patient", "series"])
def test_a_person_can_have_it_join_all_the_same(
    db: Database, layout: Layout, intake: Intake, send: Callable[..., Kept], tmp_path: Path,
    what: str,
) -> None:  # fmt: skip
    first = ct_slice()
    send(first)
    ds = (
        of_study(first, PatientID="P-2")
        if what == "patient"
        else ct_slice(series_uid=first.SeriesInstanceUID)
    )
    assert send(ds).is_held
    kept = intake.keep(
        bytes_of(ds, tmp_path), sop_class_uid=ds.SOPClassUID,
        sop_instance_uid=ds.SOPInstanceUID, transfer_syntax_uid=LITTLE,
        sender=Sender("ECHO", "CT2", "10.0.0.8", "a2"), level="study", now=NOW,
        accept_identity=True,
    )  # fmt: skip
    assert kept.is_new
    assert kept.arrival_id is not None
    with db.read() as connection:
        assert catalog.find_instance(connection, ds.SOPInstanceUID) is not None
    assert len(stored(layout)) == 2
    # Sent again it is known: nobody has to be asked twice.
    assert not send(ds).is_held
    gone = retention.Holding("received", first.StudyInstanceUID, None, 0, 1, NOW)
    with db.write() as connection:
        connection.execute(sa.update(schema.arrivals).values(state="closed"))
    assert retention.forget(db, gone), "the first study can be removed all the same"
    with db.read() as connection:
        assert catalog.find_instance(connection, first.SOPInstanceUID) is None
        if what == "series":
            (_series,) = catalog.series_of(connection, ds.StudyInstanceUID)
            assert catalog.find_study(connection, first.StudyInstanceUID) is None


def test_of_two_patients_at_one_moment_exactly_one_gets_the_study(
    db: Database, layout: Layout, tmp_path: Path
) -> None:
    for number in range(5):
        first = ct_slice(patient_id="P-1")
        both = [first, of_study(first, PatientID="P-2")]
        contents = [bytes_of(ds, tmp_path) for ds in both]
        intakes = [Intake(db, layout, "BROOKBOX") for _ in both]
        start = threading.Barrier(2)

        def one(
            n: int,
            start: threading.Barrier = start,
            intakes: list[Intake] = intakes,
            contents: list[bytes] = contents,
            both: list[Dataset] = both,
            number: int = number,
        ) -> Kept:
            start.wait()
            return intakes[n].keep(
                contents[n], sop_class_uid=both[n].SOPClassUID,
                sop_instance_uid=both[n].SOPInstanceUID, transfer_syntax_uid=LITTLE,
                sender=Sender("ECHO", f"CT{n}", "10.0.0.9", f"a{number}{n}"), level="study",
                now=NOW,
            )  # fmt: skip

        with ThreadPoolExecutor(2) as pool:
            kept = list(pool.map(one, range(2)))
        assert sorted(result.is_held for result in kept) == [False, True]
        with db.read() as connection:
            study = catalog.find_study(connection, first.StudyInstanceUID)
            (instance,) = catalog.instances_of_study(connection, first.StudyInstanceUID)
        winner = [result.is_held for result in kept].index(False)
        assert study is not None
        assert study.patient_id == both[winner].PatientID
        assert instance.sop_instance_uid == both[winner].SOPInstanceUID
        assert (layout.root / instance.path).exists()
    assert len(stored(layout)) == len(quarantine.entries(layout)) == 5
