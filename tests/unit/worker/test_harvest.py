"""What a run leaves in OUTPUT is hostile until proven otherwise: only good results are taken."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from appliance import ids
from appliance.disk.layout import JobFolder, Layout
from appliance.index import attempts, catalog, jobs
from appliance.index.attempts import Finish
from appliance.index.catalog import Instance
from appliance.index.database import Database
from appliance.index.jobs import Job, NewJob
from appliance.intake import results
from appliance.intake.take import Intake, Sender
from appliance.worker.harvest import Harvest, Rules, harvest, told
from appliance.worker.output_files import output_files
from tests.kit import dicom
from tests.kit.bench import data_set_bytes

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OWN = frozenset({os.geteuid()})


class Claimed:
    """A claimed job over a real, kept study, with an empty OUTPUT."""

    def __init__(self, db: Database, home: Path) -> None:
        self.db = db
        self.layout = Layout(home / "data")
        self.layout.make()
        self.study = dicom.ct_study(2)
        intake = Intake(db, self.layout, "BROOKBOX")
        for ds in self.study:
            self.keep(intake, ds)
        intake.close()
        self.job = self._claim()
        self.folder.output.mkdir(parents=True)

    def keep(self, intake: Intake, ds: Dataset) -> None:
        intake.keep(
            data_set_bytes(ds),
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            sender=Sender("ECHO", "CT1", "127.0.0.1", ids.new_id()),
            level="study",
            now=NOW,
        )

    def _claim(self) -> Job:
        with self.db.write() as connection:
            new = NewJob(
                ae_title="ECHO",
                study_uid=self.study[0].StudyInstanceUID,
                series_uid="",
                priority=0,
                calling_ae_title="CT1",
                address="127.0.0.1",
                input_digest="d",
                inputs=tuple(ds.SOPInstanceUID for ds in self.study),
                result_seed="s",
                incomplete=False,
                first_instance_at=NOW,
                last_instance_at=NOW,
            )
            jobs.create(connection, new, NOW)
        lease = timedelta(seconds=60)
        job = attempts.claim_next(
            self.db, "ECHO", lanes=1, worker="host/1/1.0", lease=lease, now=NOW
        )
        assert job is not None
        return job

    @property
    def folder(self) -> JobFolder:
        return self.layout.job(self.job.id)

    @property
    def output(self) -> Path:
        return self.folder.output

    def result(self, **facts: object) -> Dataset:
        ds = dicom.secondary_capture(self.study[0])
        ds.SOPInstanceUID = generate_uid()
        for name, value in facts.items():
            setattr(ds, name, value)
        return ds

    def write(self, name: str = "r.dcm", **facts: object) -> Dataset:
        ds = self.result(**facts)
        dicom.write(ds, self.output / name)
        return ds

    def harvest(
        self, *, changes_patient: bool = False, most: int = 1000, most_bytes: int = 10**9
    ) -> Harvest:
        rules = Rules("BROOKBOX", changes_patient, most, most_bytes, OWN)
        return harvest(self.db, self.layout, self.job, self.folder, rules)

    def register(self, found: Harvest) -> Finish:
        end = told(Finish("success"), found)
        results.register(self.db, self.layout, self.job, found.staged, end, NOW)
        return end

    def made(self) -> list[Instance]:
        with self.db.read() as connection:
            return catalog.results_of(connection, self.job.id)


@pytest.fixture
def claimed(db: Database, tmp_path: Path) -> Claimed:
    return Claimed(db, tmp_path)


def test_good_results_are_registered_and_other_files_are_counted(claimed: Claimed) -> None:
    claimed.write("b.dcm")
    claimed.write("deep/er/no-ending")
    (claimed.output / "report.pdf").write_bytes(b"%PDF-1.4")
    (claimed.output / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (claimed.output / "proc.json").write_text('[{"success": "success"}]')
    (claimed.output / "progress.json").write_text("{}")
    found = claimed.harvest()
    assert (len(found.staged), found.others, found.refused, found.odd) == (2, 2, [], 0)
    end = claimed.register(found)
    assert (end.outcome, end.result_count) == ("success", 2)
    assert end.reason == "2 other files are kept for download."
    assert len(claimed.made()) == 2
    assert (claimed.output / "report.pdf").exists()
    assert list(claimed.layout.incoming.iterdir()) == []


def test_an_empty_output_is_success_that_says_that_nothing_was_made(claimed: Claimed) -> None:
    end = claimed.register(claimed.harvest())
    assert (end.outcome, end.result_count) == ("success", 0)
    assert "made nothing" in end.reason


def outside(claimed: Claimed) -> Path:
    secret = claimed.layout.root.parent / "secret.dcm"
    dicom.write(claimed.result(), secret)
    return secret


def make_links(claimed: Claimed) -> None:
    (claimed.output / "sl.dcm").symlink_to(outside(claimed))
    (claimed.output / "passwd").symlink_to("/etc/shadow")
    (claimed.output / "store").symlink_to(claimed.layout.studies)
    (claimed.output / "loop").symlink_to(claimed.output)


def make_hard_link(claimed: Claimed) -> None:
    os.link(outside(claimed), claimed.output / "hard.dcm")


def make_fifo(claimed: Claimed) -> None:
    os.mkfifo(claimed.output / "fifo.dcm")


def make_socket(claimed: Claimed) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(claimed.output)  # a socket's address has at most 108 bytes
        one.bind("socket.dcm")
        os.chdir(here)


@pytest.mark.parametrize("make", [make_links, make_hard_link, make_fifo, make_socket])
def test_nothing_but_a_plain_file_of_ones_own_is_opened(
    claimed: Claimed, make: Callable[[Claimed], None]
) -> None:
    make(claimed)
    found = claimed.harvest()
    assert found.staged == []
    assert len(found.refused) == 1
    end = claimed.register(found)
    assert end.outcome == "failed"
    assert claimed.made() == []


def test_a_file_of_another_user_is_not_taken(claimed: Claimed) -> None:
    claimed.write("theirs.dcm")
    [output] = output_files(claimed.output, frozenset({4242}), 10)
    assert output.file is None
    assert output.why_not == "it belongs to another user"


def test_a_device_is_not_opened(claimed: Claimed) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device node")
    os.mknod(claimed.output / "zero.dcm", 0o20666, os.makedev(1, 5))
    assert claimed.harvest().refused == ["zero.dcm was left out: it is no regular file."]


NAMES = [b"..evil;$(id)", b"new\nline.dcm", b"\xff\xfe\x80.dcm", b"-rf.dcm", b"a" * 250]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_a_name(claimed: Claimed, name: bytes) -> None:
    good = claimed.write("x.dcm")
    os.rename(claimed.output / "x.dcm", os.path.join(os.fsencode(claimed.output), name))
    found = claimed.harvest()
    assert [one.header.sop_instance_uid for one in found.staged] == [good.SOPInstanceUID]
    assert found.staged[0].name.isprintable()
    assert len(found.staged[0].name) <= 121
    claimed.register(found)
    assert len(claimed.made()) == 1


def test_more_entries_than_allowed_and_too_deep_ones_are_refused(claimed: Claimed) -> None:
    for number in range(30):
        (claimed.output / f"f{number}").write_bytes(b"x")
    found = claimed.harvest(most=10)
    assert found.refused == ["The output was left out: there is more than output_files allows."]
    shutil.rmtree(claimed.output)
    deep = claimed.output.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)
    dicom.write(claimed.result(), deep / "r.dcm")
    found = claimed.harvest()
    assert (found.staged, found.odd) == ([], 1)


def test_files_with_holes_are_not_copied_past_the_limit(claimed: Claimed) -> None:
    """They take no room in OUTPUT, so the watch over the run did not see them."""
    claimed.write("a.dcm")
    for name in ("b.dcm", "c.dcm"):
        claimed.write(name)
        os.truncate(claimed.output / name, 8_000_000)
    found = claimed.harvest(most_bytes=1_000_000)
    assert [one.name for one in found.staged] == ["a.dcm"]
    assert found.refused == [
        f"{name} was left out: there is more than output_gb allows." for name in ("b.dcm", "c.dcm")
    ]
    assert sum(file.stat().st_size for file in claimed.layout.incoming.rglob("*")) < 1_000_000


def test_an_output_that_became_a_link_is_refused(claimed: Claimed) -> None:
    claimed.output.rmdir()
    claimed.output.symlink_to(claimed.layout.studies)
    assert len(claimed.harvest().refused) == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"StudyInstanceUID": generate_uid()},
        {"PatientID": "SOMEBODY-ELSE"},
        {"PatientName": "Else^Somebody"},
    ],
)
def test_another_patient_or_study_is_refused_unless_the_stream_changes_it(
    claimed: Claimed, facts: dict[str, str]
) -> None:
    claimed.write("bad.dcm", **facts)
    claimed.write("good.dcm")
    found = claimed.harvest()
    assert len(found.staged) == 1
    assert len(found.refused) == 1
    assert "P-SEEDED" not in found.refused[0]
    end = told(Finish("success"), found)
    assert end.outcome == "partial"
    assert "bad.dcm is no result" in end.reason
    results.sweep_staged(claimed.layout, claimed.job.id)
    assert len(claimed.harvest(changes_patient=True).staged) == 2


def test_a_name_that_is_padded_otherwise_is_the_same_patient(claimed: Claimed) -> None:
    claimed.write("r.dcm", PatientName="Seeded^Name^^^")
    assert claimed.harvest().refused == []


def test_the_input_itself_is_no_result_and_its_uid_with_other_content_is_refused(
    claimed: Claimed,
) -> None:
    first, second = claimed.study
    with claimed.db.read() as connection:
        kept = catalog.find_instance(connection, first.SOPInstanceUID)
    assert kept is not None
    shutil.copyfile(claimed.layout.root / kept.path, claimed.output / "copy.dcm")
    second.PatientComments = "changed"
    dicom.write(second, claimed.output / "changed.dcm")
    found = claimed.harvest()
    assert (found.same_as_input, found.staged) == (1, [])
    assert "SOP Instance UID of an input" in found.refused[0]
    with claimed.db.read() as connection:
        assert catalog.find_instance(connection, first.SOPInstanceUID) == kept


def test_uids_of_kept_instances_and_doubles_are_never_overwritten(claimed: Claimed) -> None:
    stranger = dicom.ct_slice(1)
    intake = Intake(claimed.db, claimed.layout, "BROOKBOX")
    claimed.keep(intake, stranger)
    intake.close()
    claimed.write("forged.dcm", SOPInstanceUID=stranger.SOPInstanceUID)
    one = claimed.write("one.dcm")
    shutil.copyfile(claimed.output / "one.dcm", claimed.output / "same.dcm")
    claimed.write("two.dcm", SOPInstanceUID=one.SOPInstanceUID, ImageComments="other")
    found = claimed.harvest()
    assert [done.name for done in found.staged] == ["one.dcm"]
    assert len(found.refused) == 2
    assert claimed.register(found).outcome == "partial"
    assert len(claimed.made()) == 1


def test_malformed_dicom_is_refused_with_a_sentence(claimed: Claimed) -> None:
    whole = data_set_bytes(claimed.result())
    (claimed.output / "garbage.dcm").write_bytes(os.urandom(5000))
    (claimed.output / "cut").write_bytes(bytes(128) + b"DICM" + whole[:300])
    (claimed.output / "empty.dcm").write_bytes(b"")
    found = claimed.harvest()
    assert found.staged == []
    assert len(found.refused) == 3
    assert all(sentence.endswith(".") for sentence in found.refused)
    assert claimed.register(found).outcome == "failed"


def test_three_sentences_are_shown_and_the_rest_is_counted(claimed: Claimed) -> None:
    for number in range(5):
        (claimed.output / f"{number}.dcm").write_bytes(b"nothing")
    end = told(Finish("success"), claimed.harvest())
    assert end.reason.endswith("And 2 more.")
    assert end.remedy
