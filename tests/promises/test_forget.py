"""Show 6: after `brookbox forget` a search finds nothing but the tombstone's keyed hash."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.disk import quarantine, trash
from appliance.index import schema as t
from appliance.index.events import latest
from appliance.index.extent import Subject
from tests.faults.checker import Acknowledged, Evidence, check
from tests.kit import dicom, require
from tests.kit.node import Node
from tests.kit.peers import Pacs
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for
from tests.promises.erasing import Box, bytes_below, killed_at, places, words_of

OTHER = {"patient_id": "P-2", "patient_name": "Other^One"}


class Ward:
    """A running node that sends its results to one PACS that is up and one that is down."""

    def __init__(self, folder: Path, index_url: str) -> None:
        self.folder = folder
        index = {"index": {"url": index_url}} if index_url else {}
        self.node = Node(folder / "node", {"worker": {"docker": "never"}, **index}, ())
        self.up, self.down = Pacs(folder / "up"), Pacs(folder / "down")
        self.up.start()
        self.node.start()
        self.node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
        ends = {"up": self.up, "down": self.down}
        self.node.route(
            {
                "destinations": {
                    name: {"ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.port}
                    for name, pacs in ends.items()
                },
                "rules": [{"name": "all", "to": list(ends)}],
            }
        )
        self.node.wait_for_stream("QUICK")

    def stop(self) -> None:
        self.node.stop()
        self.up.stop()

    def send(self, study: list[Dataset], name: str) -> list[Acknowledged]:
        """Send a study to the stream; wait until its job has ended and `up` has its result."""
        files = dicom.write_study(study, self.folder / name)
        before = len(self.node.jobs())
        assert len(self.node.send(files, "QUICK").acknowledged) == len(files)
        wait_for(lambda: len(self.node.jobs()) > before, f"a job of {name}", 60)
        job = self.node.jobs()[-1]
        self.node.wait_for_jobs(before + 1, "succeeded")

        def is_sent() -> bool:
            mine = [one for one in self.node.deliveries() if one.job_id == job.id]
            return {(d.destination, d.state == "delivered") for d in mine} == {
                ("up", True), ("down", False)
            }  # fmt: skip

        wait_for(is_sent, f"the result of {name} is at one PACS and due to the other", 60)
        return [Acknowledged(file, "QUICK") for file in files]

    def forget(self, *words: str) -> dict[str, object]:
        """Erase as a person does who waits until nothing of it goes on."""
        wait_for(lambda: not self.node.open_arrivals(), "nothing is arriving", 60)
        wait_for(lambda: not self.open_associations(), "no association is open", 60)
        answer = self.node.cli_json("forget", *words, "--yes")
        assert isinstance(answer, dict)
        return answer

    def found(self, words: Iterable[bytes]) -> list[str]:
        """Search the data folder, what the node printed, and a dump of the index."""
        wanted = list(words)
        found = places(self.node.layout.root, wanted)
        found += [f"up.log has {word!r}" for word in wanted if word in self.node.out.read_bytes()]
        if self.node.loaded.index.url:
            raw = self._pg("pg_dump", "--dbname", self._libpq)
            found += [f"the dump has {word!r}" for word in wanted if word in raw]
        return found

    def found_in_backup(self, words: Iterable[bytes]) -> list[str]:
        """Make a backup with files and search it, what is packed in it too."""
        wanted, folder = list(words), self.folder / "backups"
        assert self.node.cli("backup", str(folder), "--with-files").returncode == 0
        found = places(folder, wanted)
        for dump in folder.rglob("*.pgdump"):
            raw = self._pg("pg_restore", "--file=-", str(dump))
            found += [f"{dump} has {word!r}" for word in wanted if word in raw]
        return found

    @property
    def _libpq(self) -> str:
        return self.node.loaded.index.url.replace("postgresql+psycopg", "postgresql")

    def _pg(self, program: str, *words: str) -> bytes:
        command = [require.program(program, "postgresql-client"), *words]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

    def open_associations(self) -> int:
        a = t.associations.c
        with self.node.db.read() as connection:
            open_ones = sa.select(sa.func.count()).where(a.closed_at.is_(None))
            return connection.scalar(open_ones) or 0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ward(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ward]:
    is_sqlite = request.param == "sqlite"
    url = "" if is_sqlite else new_database(request.getfixturevalue("postgres_server"))
    ward = Ward(tmp_path_factory.mktemp("ward"), url)
    yield ward
    ward.stop()


def new_database(server: str) -> str:
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE ward")
    engine.dispose()
    return server.rsplit("/", 1)[0] + "/ward"


def leave_more(ward: Ward, study: list[Dataset]) -> None:
    """Leave the study in quarantine, whole and damaged, and where a dead process had it."""
    other = dicom.ct_slice(7, study_uid=study[0].StudyInstanceUID, rng_seed=99)
    other.SOPInstanceUID, other.SeriesInstanceUID = (
        study[0].SOPInstanceUID,
        study[0].SeriesInstanceUID,
    )
    conflict = dicom.write(other, ward.folder / "conflict" / "1.dcm")
    assert ward.node.send([conflict], "BROOKBOX").acknowledged
    wait_for(lambda: len(quarantine.entries(ward.node.layout)) == 1, "it is in quarantine")
    raw = conflict.read_bytes()
    damaged = ward.node.layout.quarantine / f"{1:023x}.dcm"
    damaged.write_bytes(raw[: len(raw) // 2])
    damaged.with_suffix(".json").write_text("{}")
    left = ward.node.layout.incoming / "p-dead"
    left.mkdir()
    (left / "a1.b2").write_bytes(raw)


def test_forget_leaves_only_the_keyed_hash(ward: Ward) -> None:
    node, study, other = ward.node, dicom.ct_study(3), dicom.ct_study(2, **OTHER)
    told = ward.send(other, "other")
    ward.send(study, "seeded")
    leave_more(ward, study)
    seeded, others = node.jobs()[-1], node.jobs()[0]
    words = [*words_of(study), result_uid(ward, seeded.id)]
    where = "\n".join(ward.found(words))
    for kind in ("studies/", "jobs/", "logs/", "quarantine/", "incoming/", "OUTPUT"):
        assert kind in where, f"the search does not find what is in {kind}"
    untouched = [folder_of(ward, other[0]), node.layout.job(others.id).path]
    before = bytes_below(*untouched)

    answer = ward.forget("--patient", "P-SEEDED-1")

    assert ward.found(words) == []
    assert ward.found_in_backup(words) == []
    assert bytes_below(*untouched) == before
    assert [d.job_id for d in node.deliveries()] == [others.id, others.id]
    assert tombstones(ward) == {
        keyed(ward, "patient:P-SEEDED-1"),
        keyed(ward, f"study:{study[0].StudyInstanceUID}"),
    }
    beyond = answer["beyond"]
    assert isinstance(beyond, dict)
    assert beyond["destinations"] == [{"destination": "up", "instances": 1, "perhaps": 0}]
    assert [one["calling_ae_title"] for one in beyond["senders"]] == ["CT1"]
    assert node.cli_json("forget", "--was-erased", "--patient", "P-SEEDED-1")["was_erased"]
    assert not node.cli_json("forget", "--was-erased", "--patient", "P-2")["was_erased"]
    assert node.cli("forget", "--patient", "P-SEEDED-1", "--yes").returncode == 0  # it is gone

    told += ward.send(study, "again")
    with node.db.read() as connection:
        [event] = latest(connection, 10, kind="erased before")
    assert event.study_uid == study[0].StudyInstanceUID
    assert check(Evidence(node.layout.root, node.db, told, is_quiet=False, logs=[node.out])) == []


def test_forget_that_is_killed_is_finished_by_the_running_node(ward: Ward) -> None:
    study = dicom.ct_study(2, patient_id="P-THIRD-3", patient_name="Third^One")
    ward.send(study, "third")
    wait_for(lambda: not ward.open_associations(), "no association is open", 60)
    box = Box(ward.node.loaded, ward.node.db, None, ward.folder)  # type: ignore[arg-type]
    killed_at(box, "rows", Subject("study", study[0].StudyInstanceUID))
    wait_for(lambda: not trash.begun(ward.node.layout), "the housekeeper has finished it", 60)
    assert ward.found([b"P-THIRD-3", b"Third^One", study[0].StudyInstanceUID.encode()]) == []
    assert "erasure finished" in (ward.node.layout.logs / "housekeeper.log").read_text()


def test_forget_says_what_is_wrong_with_the_question(ward: Ward) -> None:
    node = ward.node
    nobody = node.cli("forget", "--patient", "NOBODY", "--yes")
    assert nobody.returncode == 1 and "nothing of this patient is kept here" in nobody.stderr
    assert node.cli("forget", "--patient", "A", "--study", "1.2").returncode == 2
    assert node.cli_json("forget", "--finish") == {"finished": []}
    study = dicom.ct_study(1, patient_id="P-4")
    node.send(dicom.write_study(study, ward.folder / "fourth"), "BROOKBOX")
    uid = study[0].StudyInstanceUID
    view = node.cli_json("forget", "--preview", "--study", uid)
    assert view["extent"]["studies"][0]["instances"] == 1
    wait_for(lambda: not ward.open_associations(), "no association is open", 60)
    unasked = node.cli("forget", "--study", uid)
    assert unasked.returncode == 2 and "say --yes" in unasked.stderr
    assert folder_of(ward, study[0]).is_dir()


def result_uid(ward: Ward, job_id: int) -> bytes:
    with ward.node.db.read() as connection:
        made = t.instances.c.made_by_job == job_id
        return str(
            connection.scalar(sa.select(t.instances.c.sop_instance_uid).where(made))
        ).encode()


def folder_of(ward: Ward, ds: Dataset) -> Path:
    [folder] = ward.node.layout.studies.glob(f"*/{ds.StudyInstanceUID}")
    return folder


def tombstones(ward: Ward) -> set[str]:
    with ward.node.db.read() as connection:
        return set(connection.scalars(sa.select(t.tombstones.c.keyed_hash)))


def keyed(ward: Ward, text: str) -> str:
    file = ward.node.layout.erasure_key
    assert file.stat().st_mode & 0o777 == 0o600
    return hmac.new(bytes.fromhex(file.read_text()), text.encode(), hashlib.sha256).hexdigest()
