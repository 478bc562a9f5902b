"""A node's folder with an index, where a test plays the receiver and starts single processes."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import yaml
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

from appliance import bells, ids, settings_file
from appliance.disk.layout import Layout
from appliance.index import arrival_list, arrivals, attempts, catalog, job_list
from appliance.index.arrival_list import ArrivalRow
from appliance.index.arrivals import Association, Reception
from appliance.index.catalog import Instance
from appliance.index.database import Database
from appliance.index.job_list import Filter
from appliance.index.jobs import Job
from appliance.index.states import ENDED, Ending
from appliance.intake.take import Intake, Sender
from tests.kit import alone, catalogued, indexes
from tests.kit.waiting import wait_for

CONFIG: dict[str, dict[str, Any]] = {
    "queue": {"ring_again_seconds": 1},
    "completeness": {"quiet_seconds": 0.5, "quiet_after_abort_seconds": 1.0},
    "jobs": {"retry_seconds": 1},
    "worker": {"docker": "never", "lease_seconds": 6},
}


class Bench:
    """One node, in a folder of the test's own."""

    def __init__(self, home: Path, server: str) -> None:
        self.home = home
        (home / "config").mkdir()
        self.file = home / "config" / "brookbox.yaml"
        config = {**CONFIG, "queue": {**CONFIG["queue"], "servers": [server]}}
        self.file.write_text(yaml.safe_dump(config))
        self.settings = settings_file.load(self.file, home, {})
        self.layout = Layout(self.settings.data_root)
        self.layout.make()
        self.db: Database = indexes.migrated(self.settings)
        self.stream("ECHO")
        self.processes: list[subprocess.Popen[bytes]] = []
        self._intake: Intake | None = None

    # -- its streams and processes ------------------------------------------------------------

    def stream(self, ae_title: str, script: str = "", **info: Any) -> Path:
        """Drop a trusted stream in, or edit it; its run.py is the script."""
        folder = self.home / "streams" / ae_title.lower()
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "AETitle": ae_title,
            "name": ae_title.title(),
            "command": [sys.executable, "run.py"],
            "trusted": True,
            "quiet_seconds": 0.5,
            **info,
        }
        facts = {key: value for key, value in facts.items() if value is not None}
        (folder / "run.py").write_text(script)
        (folder / "info.json").write_text(json.dumps(facts, indent=1))
        return folder

    def start(
        self, name: str, prelude: str = "", *, may_end: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start the dispatcher or a worker, and wait until it listens, or has ended if it may.

        `prelude` is Python that runs in it first, to break something.
        """
        command = alone.command(name, self.home, self.file, prelude)
        bell = self.layout.run / f"{name}.bell"
        bell.unlink(missing_ok=True)
        with (self.home / f"{name}.log").open("ab") as out:
            process = subprocess.Popen(command, env=alone.environment(), stdout=out, stderr=out)
        self.processes.append(process)
        wait_for(
            lambda: (bell.exists() and _obeys(process.pid)) or process.poll() is not None,
            f"the {name} listens, and knows what to do when it is told to stop",
        )
        assert may_end or process.poll() is None, self.log(name)
        return process

    def stop(self) -> None:
        """Stop every process, and see that nothing of them is left."""
        family = []
        for process in self.processes:
            if process.poll() is None:
                family += psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(45)
        if self._intake is not None:
            self._intake.close()
        self.db.close()
        _, left = psutil.wait_procs(family, timeout=10)
        for one in left:
            one.kill()
        assert not left, f"left behind: {left}"

    def log(self, name: str) -> str:
        """Give what a process has logged."""
        return (self.home / f"{name}.log").read_text("utf-8", "replace")

    # -- what is received ---------------------------------------------------------------------

    def associate(self, calling: str = "CT1", called: str = "ECHO", process: str = "") -> str:
        """Open an association; its id."""
        id, now = ids.new_id(), datetime.now(UTC)
        name = process or str(ids.this_process())
        one = Association(id, called, calling, "127.0.0.1", name, now)
        arrivals.open_association(self.db, one)
        return id

    def receive(self, association: str, study: str, number: int, called: str = "ECHO") -> None:
        """Receive an instance that has no file."""
        now = datetime.now(UTC)
        with self.db.write() as connection:
            uid = catalogued.add(connection, study, number, now)
            came = Reception(uid, study, f"{study}.1", called, "CT1", "127.0.0.1", association, now)
            arrivals.receive(connection, came, "study")
        bells.ring(self.layout.run, "dispatcher")

    def release(self, association: str, ending: Ending = Ending.RELEASED) -> None:
        """End an association."""
        now = datetime.now(UTC)
        arrivals.close_association(self.db, association, ending, now, instances=1, failures=0)
        bells.ring(self.layout.run, "dispatcher")

    def send(self, study: str, *numbers: int, called: str = "ECHO") -> None:
        """Receive instances without files over one association."""
        association = self.associate(called=called)
        for number in numbers:
            self.receive(association, study, number, called)
        self.release(association)

    def send_study(
        self, study: Sequence[Dataset], called: str, ending: Ending = Ending.RELEASED
    ) -> None:
        """Receive real instances over one association, as the receiver does."""
        if self._intake is None:
            self._intake = Intake(self.db, self.layout, "BROOKBOX")
        association = self.associate(called=called)
        for ds in study:
            self._intake.keep(
                data_set_bytes(ds),
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                transfer_syntax_uid=ExplicitVRLittleEndian,
                sender=Sender(called, "CT1", "127.0.0.1", association),
                level="study",
                now=datetime.now(UTC),
            )
        self.release(association, ending)

    # -- what it knows ------------------------------------------------------------------------

    def jobs(self, *states: str) -> list[Job]:
        """List its jobs, oldest first."""
        with self.db.read() as connection:
            return job_list.jobs_matching(connection, Filter(states=states), 1000)[::-1]

    def wait_for_jobs(self, count: int, *states: str, seconds: float = 40) -> list[Job]:
        """Wait until so many jobs are in one of these states (none named: ended)."""
        wanted = states or tuple(ENDED)

        def enough() -> list[Job]:
            found = self.jobs(*wanted)
            return found if len(found) >= count else []

        try:
            return wait_for(enough, f"{count} jobs {'/'.join(wanted)}", seconds)
        except AssertionError as error:
            shown = "\n".join(f"{job.id} {job.state} {job.wait_reason}" for job in self.jobs())
            raise AssertionError(f"{error}\n{shown}\n{self.log('worker')[-5000:]}") from None

    def closed(self) -> list[ArrivalRow]:
        """List its closed arrivals, oldest first."""
        with self.db.read() as connection:
            return arrival_list.closed(connection, 1000)[::-1]

    def results(self, job_id: int) -> list[Instance]:
        """List what a job made."""
        with self.db.read() as connection:
            return catalog.results_of(connection, job_id)

    def claim(self, worker: str, lease_seconds: float = 60) -> Job | None:
        """Claim the next job of ECHO, as a worker does."""
        return attempts.claim_next(
            self.db,
            "ECHO",
            lanes=9,
            worker=worker,
            lease=timedelta(seconds=lease_seconds),
            now=datetime.now(UTC),
        )


def data_set_bytes(ds: Dataset) -> bytes:
    """Encode a data set as a sender puts it on the wire, without File Meta."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, ds)
    value: bytes = out.getvalue()
    return value


def _obeys(pid: int) -> bool:
    """Say whether a process catches SIGTERM already; False when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False
