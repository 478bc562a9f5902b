"""The housekeeper as a process: it sweeps, beats, forgets the dead, and heeds the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance import ids
from appliance.dicom.header import Header
from appliance.disk.layout import Layout, instance_path
from appliance.housekeeper import service
from appliance.index import beats, catalog, database, events, jobs, lanes, migrate
from appliance.index.database import Database
from appliance.index.lanes import Lane
from appliance.settings import Housekeeper, Settings
from tests.kit.waiting import wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
RULES = "housekeeper: {inputs_days: 1, sweep_seconds: 0.5, beat_seconds: 600}\n"
LONG_AGO = datetime.now(UTC) - timedelta(days=10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "brookbox.yaml").write_text(RULES)
    settings = Settings(home=tmp_path, housekeeper=Housekeeper(inputs_days=1))
    Layout(settings.data_root).make()
    return settings


@pytest.fixture
def db(settings: Settings) -> Iterator[Database]:
    db = database.connect(settings)
    migrate.migrate(db)
    yield db
    db.close()


@pytest.fixture
def process(settings: Settings, db: Database) -> Iterator[subprocess.Popen[bytes]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BROOKBOX_")}
    with (settings.data_root / "logs" / "housekeeper.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "appliance.cli", "housekeeper"],
            cwd=settings.home,
            env={**environment, "PYTHONPATH": str(CHECKOUT)},
            stdout=log,
            stderr=log,
        )
    yield process
    process.kill()
    process.wait()


def add_old_instance(db: Database, settings: Settings) -> Path:
    header = Header("1.2", "1.1.1", "1.1", "1.1.9", "1.2.840.10008.1.2")
    path = instance_path("1.1", "1.1.9", "1.1.1")
    file = settings.data_root / path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    with db.write() as connection:
        catalog.add_instance(
            connection, header, path=path, size_bytes=1, dataset_sha256="0" * 64, now=LONG_AGO
        )
    return file


def test_it_removes_what_is_too_old_and_says_so(
    settings: Settings, db: Database, process: subprocess.Popen[bytes]
) -> None:
    file = add_old_instance(db, settings)
    wait_for(lambda: not file.exists(), "the old study is gone")

    def told() -> list[events.Event]:
        with db.read() as connection:
            return events.latest(connection, 5, kind="removed")

    [said] = wait_for(told, "the removal is told")
    assert said.who == "housekeeper" and said.study_uid == "1.1"


def test_it_beats_and_takes_its_beat_away(
    settings: Settings, db: Database, process: subprocess.Popen[bytes]
) -> None:
    def names() -> set[str]:
        with db.read() as connection:
            return {beat.name for beat in beats.all_beats(connection)}

    wait_for(lambda: "housekeeper" in names(), "it beats")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert names() == set()


def test_it_forgets_processes_that_died(
    settings: Settings, db: Database, process: subprocess.Popen[bytes]
) -> None:
    dead = subprocess.Popen(["sleep", "100"])
    me = ids.this_process()
    name = str(ids.ProcessName(me.host, dead.pid, me.started))
    dead.kill()
    dead.wait()
    now = datetime.now(UTC)
    beats.beat(db, name, "worker", now)
    beats.beat(db, "elsewhere/1/1.00", "worker", now)
    lanes.beat(db, name, [Lane(f"{name} S 0", name, "S", True, "", "", "process", None, now)])

    def known() -> tuple[set[str], set[str]]:
        with db.read() as connection:
            return _processes(connection), lanes.workers(connection)

    def _processes(connection: database.Connection) -> set[str]:
        return {beat.process for beat in beats.all_beats(connection) if beat.name == "worker"}

    # Its beat goes first, its lanes in the next moment.
    wait_for(lambda: known() == ({"elsewhere/1/1.00"}, set()), "the dead one is forgotten", 30)
    with db.read() as connection:
        assert lanes.workers(connection) == set()


def test_ft_29_a_jump_of_the_clock_moves_leases_and_stops_removal(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is the one thing that is faked here: nobody may set the machine's."""
    file = add_old_instance(db, settings)
    new = jobs.NewJob(
        ae_title="S", study_uid="9", series_uid="", priority=0, calling_ae_title="", address="",
        input_digest="", inputs=(), result_seed="", incomplete=False,
        first_instance_at=LONG_AGO, last_instance_at=LONG_AGO,
    )  # fmt: skip
    from appliance.index import attempts

    now = datetime.now(UTC)
    with db.write() as connection:
        jobs.create(connection, new, now)
    job = attempts.claim_next(
        db, "S", lanes=1, worker="here/1/1", lease=timedelta(seconds=60), now=now
    )
    assert job is not None and job.lease_until is not None
    housekeeper = service._Housekeeper(db, settings)
    year = timedelta(days=365)
    monkeypatch.setattr(housekeeper, "_clock", service.clock.Reading(now - year, 0.0))
    monkeypatch.setattr(service.clock, "read", lambda at: service.clock.Reading(at, 0.0))
    housekeeper.work(now)
    with db.read() as connection:
        moved = jobs.get(connection, job.id).lease_until
        said = events.latest(connection, 5, kind="clock jumped")
    assert moved is not None and abs(moved - job.lease_until - year) < timedelta(seconds=1)
    assert "1 leases moved" in said[0].sentence
    assert file.exists(), "a study was removed by a clock that nobody has confirmed"
    run = Layout(settings.data_root).run
    assert service.clock.confirm(run)
    housekeeper._sweep.at = 0.0
    housekeeper.work(now + timedelta(seconds=1))
    assert not file.exists()
