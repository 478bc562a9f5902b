"""The checker finds what it is there to find: for each invariant a node broken by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pydicom
import pytest
import sqlalchemy as sa

from appliance.dicom.header import Header
from appliance.disk import quarantine
from appliance.disk.layout import Layout, instance_path
from appliance.index import arrivals, attempts, catalog, database, deliveries, events, jobs, migrate
from appliance.index import schema as t
from appliance.index.arrivals import Reception
from appliance.index.database import Database
from appliance.settings import Settings
from tests.faults import checker, measures
from tests.faults.checker import Acknowledged, Evidence
from tests.kit import dicom
from tests.unit.index.test_moves_of_a_job import new_job

NOW = datetime.now(UTC)
OLD = NOW - timedelta(hours=1)


@dataclass
class Sound:
    """A node that did one study: received, worked, delivered."""

    evidence: Evidence
    layout: Layout
    db: Database
    sent: Path
    pacs: Path

    def execute(self, statement: sa.Executable) -> None:
        with self.db.write() as connection:
            connection.execute(statement)


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[Sound]:
    """Make the node by hand, with the index's own moves."""
    settings = Settings(home=tmp_path)
    layout = Layout(settings.data_root)
    layout.make()
    db = database.connect(settings)
    migrate.migrate(db)
    source, result = dicom.ct_study(2)
    sent = dicom.write(source, tmp_path / "sent.dcm")
    _keep(layout, db, source, None)
    pacs = tmp_path / "pacs"
    with db.write() as connection:
        reception = Reception(
            str(source.SOPInstanceUID),
            str(source.StudyInstanceUID),
            str(source.SeriesInstanceUID),
            "ECHO",
            "CT1",
            "127.0.0.1",
            "a",
            OLD,
        )
        arrivals.receive(connection, reception, None)
        job = new_job(str(source.StudyInstanceUID), inputs=(str(source.SOPInstanceUID),))
        jobs.create(connection, job, OLD)
    running = attempts.claim_next(
        db, "ECHO", lanes=1, worker="h/1/1", lease=timedelta(minutes=1), now=OLD
    )
    assert running is not None
    _keep(layout, db, result, running.id)
    with db.write() as connection:
        attempts.finish(connection, running, attempts.Finish("success", result_count=1), OLD)
        events.append(connection, "job succeeded", "It succeeded.", OLD, job_id=running.id)
        uid = str(result.SOPInstanceUID)
        deliveries.create(
            connection,
            job_id=running.id,
            destination="pacs",
            what="output",
            rule="",
            instances=[uid],
            now=OLD,
        )
        deliveries.mark_routed(connection, running.id, "", OLD)
    delivery = deliveries.claim_due(
        db, busy=(), router="h/1/1", lease=timedelta(minutes=1), now=OLD
    )
    assert delivery is not None
    deliveries.note_instances(db, delivery, [deliveries.Sent(uid, "sent", 0, "", OLD)])
    deliveries.delivered(db, delivery, "", OLD)
    dicom.write(result, pacs / "one.dcm")
    evidence = Evidence(layout.root, db, [Acknowledged(sent, "ECHO")], [pacs], [], now=NOW)
    yield Sound(evidence, layout, db, sent, pacs)
    db.close()


def _keep(layout: Layout, db: Database, ds: object, made_by_job: int | None) -> None:
    study, series, sop = (
        str(getattr(ds, name))
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    )
    path = instance_path(study, series, sop)
    file = dicom.write(ds, layout.root / path)  # type: ignore[arg-type]
    header = Header("1.2.840", sop, study, series, "1.2.840.10008.1.2.1")
    with db.write() as connection:
        catalog.add_instance(
            connection,
            header,
            path=path,
            size_bytes=file.stat().st_size,
            dataset_sha256=checker.data_set_digest(file),
            now=OLD,
            made_by_job=made_by_job,
        )


def kept_files(sound: Sound) -> list[Path]:
    return sorted(sound.layout.studies.rglob("*.dcm"))


def age(path: Path) -> None:
    past = OLD.timestamp()
    os.utime(path, (past, past))


def lose_a_row(sound: Sound) -> None:
    sound.execute(sa.delete(t.receptions))
    sound.execute(sa.delete(t.instances).where(t.instances.c.made_by_job.is_(None)))


def lose_a_reception(sound: Sound) -> None:
    sound.execute(sa.delete(t.receptions))


def lose_a_file(sound: Sound) -> None:
    kept_files(sound)[0].unlink()


def flip_a_byte(sound: Sound) -> None:
    file = kept_files(sound)[0]
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


def lose_other_content(sound: Sound) -> None:
    ds = pydicom.dcmread(sound.sent)
    ds.PatientComments = "another content under the same UID"
    dicom.write(ds, sound.sent)


def leave_an_orphan(sound: Sound) -> None:
    orphan = sound.layout.studies / "00" / "1.2.3.dcm"
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_bytes(b"x")
    age(orphan)


def leave_a_temp(sound: Sound) -> None:
    temp = sound.layout.incoming / "0123"
    temp.write_bytes(b"x")
    age(temp)


def leave_a_job_running(sound: Sound) -> None:
    sound.execute(sa.update(t.jobs).values(state="running"))


def register_a_result_twice(sound: Sound) -> None:
    sound.execute(sa.update(t.instances).values(made_by_job=1))


def fail_without_a_reason(sound: Sound) -> None:
    sound.execute(sa.update(t.jobs).values(state="failed", reason=""))


def leave_a_job_waiting_beside_an_idle_lane(sound: Sound) -> None:
    sound.evidence.is_quiet = False
    with sound.db.write() as connection:
        jobs.create(connection, new_job("9.9"), OLD)
        connection.execute(
            sa.insert(t.lanes).values(
                id="l", worker="h/1/1", ae_title="ECHO", is_open=True, last_beat_at=NOW
            )
        )


def leave_an_arrival_open(sound: Sound) -> None:
    with sound.db.write() as connection:
        connection.execute(
            sa.insert(t.arrivals).values(
                called_ae_title="ECHO",
                study_uid="9.9",
                state="open",
                opened_at=OLD,
                last_instance_at=OLD,
            )
        )


def leave_a_delivery_due(sound: Sound) -> None:
    sound.execute(sa.update(t.deliveries).values(state="due"))


def give_up_silently(sound: Sound) -> None:
    sound.execute(sa.update(t.deliveries).values(state="gave_up", message=""))


def never_route(sound: Sound) -> None:
    sound.execute(sa.update(t.jobs).values(routed_at=None))


def claim_a_delivery_that_was_not(sound: Sound) -> None:
    sound.execute(sa.update(t.delivery_instances).values(state="failed"))


def lose_it_at_the_pacs(sound: Sound) -> None:
    (sound.pacs / "one.dcm").unlink()


def deliver_it_twice(sound: Sound) -> None:
    (sound.pacs / "two.dcm").write_bytes((sound.pacs / "one.dcm").read_bytes())


def write_outside(sound: Sound) -> None:
    home = sound.layout.root.parent / "home"
    home.mkdir()
    sound.evidence.outside_before = measures.Outside.look(home)
    (home / "was-here").write_text("x")


def change_outside(sound: Sound) -> None:
    home = sound.layout.root.parent / "home"
    home.mkdir()
    (home / "profile").write_text("x")
    sound.evidence.outside_before = measures.Outside.look(home)
    (home / "profile").write_text("another")


def log_a_name(sound: Sound) -> None:
    (sound.layout.logs / "receiver.log").write_text('{"event": "stored Seeded^Name"}\n')


def put_a_name_in_an_event(sound: Sound) -> None:
    with sound.db.write() as connection:
        events.append(connection, "x", "Stored P-SEEDED-1.", NOW)


def forget_the_audit(sound: Sound) -> None:
    sound.execute(sa.delete(t.events))


BROKEN: list[tuple[str, Callable[[Sound], None], str]] = [
    ("I1", lose_a_row, "is not in the index"),
    ("I1", lose_a_reception, "has no reception"),
    ("I1", lose_a_file, "no file"),
    ("I1", flip_a_byte, "not the one"),
    ("I1", lose_other_content, "neither kept nor in quarantine"),
    ("I2", leave_an_orphan, "has no row"),
    ("I2", leave_a_temp, "left in incoming"),
    ("I3", leave_a_job_running, "still running"),
    ("I3", register_a_result_twice, "the index has 2"),
    ("I3", fail_without_a_reason, "without a reason"),
    ("I4", leave_a_job_waiting_beside_an_idle_lane, "nobody runs it"),
    ("I4", leave_an_arrival_open, "never closed"),
    ("I5", leave_a_delivery_due, "still due"),
    ("I5", give_up_silently, "without a reason"),
    ("I5", never_route, "never looked at it"),
    ("I5", claim_a_delivery_that_was_not, "is failed"),
    ("I5", lose_it_at_the_pacs, "does not hold it"),
    ("I5", deliver_it_twice, "2 times"),
    ("I6", write_outside, "was made"),
    ("I6", change_outside, "was changed"),
    ("I7", log_a_name, "has the patient's"),
    ("I7", put_a_name_in_an_event, "P-SEEDED-1"),
    ("I7", forget_the_audit, "audit trail"),
]


def test_a_sound_node_has_no_violation(sound: Sound) -> None:
    assert checker.check(sound.evidence) == []


@pytest.mark.parametrize(
    ("invariant", "break_it", "said"), BROKEN, ids=[one[1].__name__ for one in BROKEN]
)
def test_what_is_broken_is_reported(
    sound: Sound, invariant: str, break_it: Callable[[Sound], None], said: str
) -> None:
    break_it(sound)
    found = checker.check(sound.evidence)
    assert any(line.startswith(f"{invariant}:") and said in line for line in found), found


@pytest.mark.parametrize("kind", ["held", "conflict"])
def test_what_is_whole_in_quarantine_is_not_lost(sound: Sound, kind: str) -> None:
    if kind == "held":
        ds = dicom.ct_slice(5)
        came = dicom.write(ds, sound.sent.with_name("held.dcm"))
        sound.evidence.acknowledged = [*sound.evidence.acknowledged, Acknowledged(came, "ECHO")]
    else:
        lose_other_content(sound)
        ds, came = pydicom.dcmread(sound.sent), sound.sent
    assert checker.check(sound.evidence) != []
    entry = quarantine.Entry(
        id="", reason="", remedy="", status=0x0000, called_ae_title="ECHO", calling_ae_title="CT1",
        address="", association_id="a1", sop_class_uid=ds.SOPClassUID,
        sop_instance_uid=ds.SOPInstanceUID, transfer_syntax_uid="", received_at=NOW,
        kind=quarantine.Kind(kind),
    )  # fmt: skip
    id = quarantine.keep(sound.layout, came, entry)
    assert checker.check(sound.evidence) == []
    file = quarantine.file_of(sound.layout, id)
    raw = bytearray(file.read_bytes())
    file.unlink()
    raw[-1] ^= 1
    file.write_bytes(raw)
    assert checker.check(sound.evidence) != [], "its bytes must be whole"


def test_a_process_that_keeps_descriptors_is_reported(sound: Sound) -> None:
    code = """
import sys
kept = []
for line in sys.stdin:
    kept += [open("/dev/null") for _ in range(50)]
    print()
"""
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    process = psutil.Process(child.pid)
    before = measures.usage([process])
    evidence = replace(sound.evidence, processes_before=before, processes=[process])
    assert list(checker.resources_return(evidence, 0)) == []
    child.stdin.write(b"more\n")
    child.stdin.flush()
    child.stdout.readline()
    found = list(checker.resources_return(evidence, 0))
    child.kill()
    child.communicate()
    assert len(found) == 1
    assert "descriptors" in found[0]
