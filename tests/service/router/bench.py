"""A router process with an index of its own, and peers that answer as they are told."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import yaml
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from appliance import settings_file
from appliance.bells import ring
from appliance.dicom.header import Header
from appliance.disk.layout import Layout, instance_path
from appliance.index import arrivals, attempts, catalog, deliveries, jobs
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.index.deliveries import Delivery, Sent
from appliance.index.jobs import Job, NewJob
from appliance.settings import Settings
from tests.kit import alone, dicom, indexes
from tests.kit.waiting import free_port, wait_for

QUICK = {"first_retry_seconds": 0.2, "longest_retry_minutes": 0.1, "association_timeout_seconds": 5}


@dataclass
class Bench:
    """A data_root, its index, and the router that works on it."""

    home: Path
    router: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        config = self.home / "config"
        config.mkdir(parents=True)
        values = {"receiver": {"port": free_port()}, "router": {**QUICK, **self.router}}
        (config / "brookbox.yaml").write_text(yaml.safe_dump(values))
        self.settings: Settings = settings_file.load(config / "brookbox.yaml", self.home, {})
        self.layout = Layout(self.settings.data_root)
        self.layout.make()
        self.db: Database = indexes.migrated(self.settings)

    # -- the process --------------------------------------------------------------------------

    def start(self) -> Bench:
        """Start the router."""
        file = self.home / "config" / "brookbox.yaml"
        with (self.home / "router.log").open("ab") as log:
            self.process = subprocess.Popen(
                alone.command("router", self.home, file),
                env=alone.environment(),
                stdout=log,
                stderr=log,
            )
        wait_for((self.layout.run / "router.bell").exists, "the router listens")
        return self

    def kill(self) -> None:
        """Kill the router as a power cut of its process would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None
        (self.layout.run / "router.bell").unlink(missing_ok=True)

    def stop(self, seconds: float = 30) -> float:
        """Stop the router in good order; give how long that took."""
        if self.process is None:
            return 0.0
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(seconds) == 0, self.log()
        finally:
            self.process.kill()
            self.process.wait()
            self.process = None
        return time.monotonic() - began

    def log(self) -> str:
        """Give what the router logged."""
        return (self.home / "router.log").read_text("utf-8", "replace")

    # -- its rules and jobs -------------------------------------------------------------------

    def route(self, routing: dict[str, Any] | str) -> None:
        """Write routing.yaml, in one move."""
        text = routing if isinstance(routing, str) else yaml.safe_dump(routing, sort_keys=False)
        part = self.settings.routing_file.with_suffix(".part")
        part.write_text(text)
        part.rename(self.settings.routing_file)

    def route_to(self, *ports: int, **facts: Any) -> None:
        """Send every result to nodes on these ports, named p0, p1, …"""
        known = {
            f"p{n}": {"ae_title": f"PACS{n}", "host": "127.0.0.1", "port": port, **facts}
            for n, port in enumerate(ports)
        }
        self.route({"destinations": known, "rules": [{"name": "all", "to": list(known)}]})

    def keep(self, ds: Dataset, job_id: int | None, syntax: str = ExplicitVRLittleEndian) -> str:
        """Keep an instance as intake would; give its UID."""
        path = instance_path(ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
        file = dicom.write(ds, self.layout.root / path, syntax)
        header = Header(
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            study_uid=ds.StudyInstanceUID,
            series_uid=ds.SeriesInstanceUID,
            transfer_syntax_uid=syntax,
        )
        with self.db.write() as connection:
            catalog.add_instance(
                connection,
                header,
                path=path,
                size_bytes=file.stat().st_size,
                dataset_sha256="0" * 64,
                now=datetime.now(UTC),
                made_by_job=job_id,
            )
        return str(ds.SOPInstanceUID)

    def ended_job(
        self, results: Sequence[Dataset], *, outcome: str = "success", **facts: Any
    ) -> int:
        """Make a job that ended with these results, and ring; give its id."""
        now = datetime.now(UTC)
        syntax = facts.pop("syntax", ExplicitVRLittleEndian)
        study_uid = str(results[0].StudyInstanceUID) if results else "1.2.3"
        source = dicom.ct_slice(study_uid=study_uid)
        values = {
            "ae_title": "ECHO", "study_uid": study_uid, "series_uid": "", "priority": 0,
            "calling_ae_title": "CT1", "address": "127.0.0.1", "input_digest": study_uid,
            "inputs": (self.keep(source, None),), "result_seed": "s", "incomplete": False,
            "first_instance_at": now, "last_instance_at": now,
        }  # fmt: skip
        values["incomplete"] = held = bool(facts.pop("is_held", False))
        with self.db.write() as connection:
            job_id = jobs.create(connection, NewJob(**{**values, **facts}), now)
        for ds in results:
            self.keep(ds, job_id, syntax)
        self.finish(job_id, Finish(outcome, result_count=len(results), is_held=held))
        return job_id

    def finish(self, job_id: int, end: Finish) -> None:
        """Run a queued job to its end, and ring."""
        now = datetime.now(UTC)
        lease = timedelta(60)
        ae_title = self.job(job_id).ae_title
        job = attempts.claim_next(
            self.db, ae_title, lanes=99, worker="h/1/1.0", lease=lease, now=now
        )
        assert job is not None
        assert job.id == job_id
        with self.db.write() as connection:
            attempts.finish(connection, job, end, now)
        self.ring()

    def received(self, study_uid: str, calling: str, address: str) -> None:
        """Note that this sender sent an instance of a study to ECHO."""
        ds = dicom.ct_slice(study_uid=study_uid)
        self.keep(ds, None)
        reception = arrivals.Reception(
            sop_instance_uid=ds.SOPInstanceUID,
            study_uid=study_uid,
            series_uid=ds.SeriesInstanceUID,
            called_ae_title="ECHO",
            calling_ae_title=calling,
            address=address,
            association_id=ds.SOPInstanceUID[-20:],
            received_at=datetime.now(UTC),
        )
        with self.db.write() as connection:
            arrivals.receive(connection, reception, None)

    def ring(self) -> None:
        """Ring the router's bell."""
        ring(self.layout.run, "router")

    # -- what came of it ----------------------------------------------------------------------

    def job(self, job_id: int) -> Job:
        """Look a job up."""
        with self.db.read() as connection:
            return jobs.get(connection, job_id)

    def deliveries(self, *states: str) -> list[Delivery]:
        """List the deliveries in these states, oldest first."""
        with self.db.read() as connection:
            return deliveries.deliveries_in(connection, states, 1000)[::-1]

    def instances(self, delivery_id: int) -> list[Sent]:
        """List the instances of a delivery."""
        with self.db.read() as connection:
            return deliveries.instances_of(connection, delivery_id)

    def wait_for(
        self, state: str, count: int = 1, seconds: float = 30, attempt: int = 0
    ) -> list[Delivery]:
        """Wait until so many deliveries are in a state, tried at least `attempt` times."""

        def enough() -> list[Delivery]:
            found = [one for one in self.deliveries(state) if one.attempt >= attempt]
            return found if len(found) >= count else []

        try:
            return wait_for(enough, f"{count} deliveries {state}", seconds)
        except AssertionError as error:
            told = "\n".join(f"{one}" for one in self.deliveries())
            raise AssertionError(f"{error}\n{told}\n{self.log()[-4000:]}") from None

    def wait_until_routed(self, job_id: int) -> Job:
        """Wait until the router has looked at a job."""
        wait_for(lambda: self.job(job_id).routed_at, "the job is routed", 20)
        return self.job(job_id)


@contextmanager
def scp(
    answer: Callable[[evt.Event], int], *contexts: tuple[str, str], ae_title: str = "PACS0"
) -> Any:
    """Lend a pynetdicom SCP that answers C-STOREs as it is told; its port and what came."""
    asked: list[str] = []

    def store(event: evt.Event) -> int:
        asked.append(str(event.request.AffectedSOPInstanceUID))
        return answer(event)

    peer = AE(ae_title)
    for sop_class, syntax in contexts:
        peer.add_supported_context(sop_class, syntax)
    server = peer.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        yield server.socket.getsockname()[1], asked
    finally:
        server.shutdown()


def uids(folder: Path) -> list[str]:
    """List the SOP Instance UIDs of the files that DCMTK's storescp kept bit by bit."""
    found = [pydicom.dcmread(one, stop_before_pixels=True, force=True) for one in folder.iterdir()]
    return sorted(str(ds.SOPInstanceUID) for ds in found)


def sop_uids(study: list[pydicom.Dataset]) -> list[str]:
    return sorted(str(ds.SOPInstanceUID) for ds in study)
