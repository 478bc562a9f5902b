"""FT-29: the clock is set, the zone is odd or missing; nothing is lost, removed or run twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.association import Association

from appliance.housekeeper import clock
from appliance.housekeeper.clock import Reading, since_last_run
from tests.faults.flow import Town
from tests.kit import require
from tests.kit.dicom import ct_study, write_study
from tests.kit.node import CHECKOUT
from tests.kit.waiting import wait_for

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CT = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")


def libfaketime() -> str:
    """Give the library that shows its processes another wall clock."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        require.missing("libfaketime", "apt-get install libfaketime")
    return str(found[0])


def faked(file: Path) -> dict[str, str]:
    """Give the environment in which the wall clock is what the file says; no other clock is."""
    return {
        "LD_PRELOAD": libfaketime(),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


class Clock:
    """The wall clock of a node, which the test sets while it runs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "faketime"
        self.set("+0")

    def set(self, by: str) -> None:
        """Move it by so much from the real time, in one step."""
        part = self.file.with_suffix(".part")
        part.write_text(f"{by}\n")
        part.rename(self.file)

    def move(self, by: timedelta) -> None:
        self.set(str(by.total_seconds()))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[tuple[Town, Clock]]:
    town, wall = Town(tmp_path / "town"), Clock(tmp_path / "clock")
    # The test is silent over an association of its own for longer than QUICK's 3 s.
    town.node.settings["completeness"] = {"idle_seconds": 120}
    first = CHECKOUT / "tests" / "kit" / "moved_clock"
    town.node._own_folders |= {
        "MOVED_CLOCK": str(wall.file), "PYTHONPATH": f"{first}:{CHECKOUT}",
    }  # fmt: skip
    try:
        town.start()
        yield town, wall
    finally:
        town.stop()


def associated(town: Town, called: str) -> Association:
    """Open an association for CT, of which the test says when it ends."""
    ae = AE("CT1")
    ae.add_requested_context(*CT)
    ae.network_timeout = 600
    assoc = ae.associate("127.0.0.1", town.node.port, ae_title=called)
    assert assoc.is_established
    return assoc


def front_page(town: Town) -> str:
    url = f"http://127.0.0.1:{town.node.web_port}/"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: bytes = answer.read()
    return text.decode()


@pytest.mark.timeout(400)
def test_ft_29_a_year_ahead_and_an_hour_back_lose_and_remove_nothing(
    town: tuple[Town, Clock], tmp_path: Path
) -> None:
    here, wall = town
    node = here.node
    gate = here.held_stream("HELD")
    flow = here.flow("HELD")
    wait_for(lambda: [job for job in node.jobs("HELD") if job.state == "running"], "one runs", 60)
    running = next(job for job in node.jobs("HELD") if job.state == "running")
    stored = set(node.layout.studies.rglob("*.dcm"))

    halves = write_study(ct_study(2), tmp_path / "halves")
    assoc = associated(here, "HELD")
    assert assoc.send_c_store(dcmread(halves[0])).Status == 0x0000

    wall.move(timedelta(days=365))
    wait_for(
        lambda: "nothing is removed until a person confirms" in front_page(here), "it says so", 60
    )
    seen = flow.studies
    wait_for(lambda: flow.studies > seen + 1, "studies flow on", 60)
    assert assoc.send_c_store(dcmread(halves[1])).Status == 0x0000, "it was taken for lost"
    assoc.release()
    wall.move(timedelta(days=365, hours=-1))
    wait_for(lambda: flow.studies > seen + 3, "studies flow on", 60)
    wall.move(timedelta(days=364))
    wait_for(lambda: flow.studies > seen + 5, "studies flow on", 60)
    job = node.job(running.id)
    assert (job.state, job.attempt) == ("running", 1), "its lease moved with the clock"
    gate.touch()
    assert here.settle(flow) == []
    assert here.results_for_every_study()
    jobs = node.jobs("HELD")
    assert [one.attempt for one in jobs] == [1] * len(jobs), node.story()
    assert not [one.id for one in jobs if one.incomplete], "a jump ended what was coming in"
    study = dcmread(halves[0]).StudyInstanceUID
    assert [one.input_count for one in jobs if one.study_uid == study] == [2]
    assert stored <= set(node.layout.studies.rglob("*.dcm")), "a jump made old what was new"


ZONES = ("", "Europe/Berlin", "America/New_York", "Pacific/Kiritimati", "No/Such_Zone")
# Before the clocks of Berlin go back, and in the hour that comes twice.
MOMENTS = ("2026-10-24T23:30:00", "2026-10-25T00:30:00", "2026-10-25T01:30:00")
NOTE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from appliance.index import database, events, migrate
from appliance.settings import Settings
home, clock, *moments = sys.argv[1:]
db = database.connect(Settings(home=Path(home)))
migrate.migrate(db)
real = datetime.now(UTC)
for moment in moments:
    wanted = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    # Relative, since faketime reads a moment in the zone of the process.
    Path(clock).write_text(f"{(wanted - real).total_seconds():+.0f}\\n")
    with db.write() as connection:
        events.append(connection, "noted", "n", datetime.now(UTC))
with db.read() as connection:
    print([event.at.isoformat() for event in events.latest(connection, 10)[::-1]])
    print([row[0] for row in connection.exec_driver_sql("SELECT at FROM events ORDER BY id")])
"""


@pytest.mark.parametrize("zone", ZONES)
def test_ft_29_the_index_is_in_utc_whatever_the_zone_of_the_machine(
    tmp_path: Path, zone: str
) -> None:
    wall = Clock(tmp_path / "clock")
    environment = {**os.environ, **faked(wall.file), "PYTHONPATH": str(CHECKOUT), "TZ": zone}
    if not zone:
        del environment["TZ"]
    done = subprocess.run(
        [sys.executable, "-c", NOTE, str(tmp_path), str(wall.file), *MOMENTS],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read, written = map(_list, done.stdout.splitlines()[-2:])
    assert len(read) == len(MOMENTS)
    for found, moment in zip(read, MOMENTS, strict=True):
        wanted = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        assert abs(datetime.fromisoformat(found) - wanted) < timedelta(seconds=90)
    assert all(one.endswith("Z") for one in written)
    assert written == sorted(written), "the hour that comes twice is two hours"


def _list(text: str) -> list[str]:
    found: list[str] = json.loads(text.replace("'", '"'))
    return found


def test_ft_29_a_jump_while_the_housekeeper_was_away_is_a_jump(tmp_path: Path) -> None:
    before = Reading(NOW, 1000.0)
    assert since_last_run(tmp_path, before) == timedelta(0), "there was no earlier run"
    clock.keep(tmp_path, before)
    later = Reading(NOW + timedelta(days=365, minutes=5), 1300.0)
    assert since_last_run(tmp_path, later) == timedelta(days=365)
    assert since_last_run(tmp_path, replace(later, wall=NOW + timedelta(minutes=5))) == timedelta(0)
    (tmp_path / "clock-seen.json").write_text("[]")
    assert since_last_run(tmp_path, later) == timedelta(0)


@pytest.mark.parametrize(
    ("away", "counts"), [(timedelta(days=9), False), (timedelta(days=31), True)]
)
def test_ft_29_over_a_reboot_only_a_long_absence_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: timedelta, counts: bool
) -> None:
    clock.keep(tmp_path, Reading(NOW, 1000.0))
    monkeypatch.setattr(clock, "_boot", lambda: "another boot")
    found = since_last_run(tmp_path, Reading(NOW + away, 20.0))
    assert found == (away if counts else timedelta(0))
