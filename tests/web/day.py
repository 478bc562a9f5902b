"""A day at a node: jobs in every state, arrivals, deliveries, services, made through the index."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appliance.dicom.header import Header
from appliance.dicom.names import derived_uid
from appliance.disk.layout import Layout, instance_path
from appliance.index import arrivals, attempts, beats, catalog, deliveries, events, jobs, lanes
from appliance.index.arrivals import Association, Reception
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.index.jobs import Job, NewJob
from appliance.index.lanes import Lane
from appliance.index.states import Ending
from appliance.settings import Settings

WORKER = "node1/4711/100.00"
HOSTILE_NAME = "<script>alert('x')</script>^Mal"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_LOG = """reading 24 instances from /input
series 2 "Axial 5 mm": 24 slices, 512 x 512
window 40/400
"""


@dataclass(slots=True)
class Day:
    """The node of a test; every method makes something and gives its id."""

    settings: Settings
    db: Database
    now: datetime
    layout: Layout = field(init=False)
    made: int = 0

    def __post_init__(self) -> None:
        self.layout = Layout(self.settings.data_root)
        self.layout.make()

    def study(self, patient: str, patient_id: str, description: str, images: int = 4) -> list[str]:
        """Keep a study; the first UID is that of the study, then its instances."""
        self.made += 1
        study_uid = f"1.2.826.0.1.3680043.8.498.{self.made}"
        uids = [f"{study_uid}.1.{n}" for n in range(1, images + 1)]
        with self.db.write() as connection:
            for number, uid in enumerate(uids, 1):
                self._keep(connection, study_uid, uid, patient, patient_id, description, number)
        return [study_uid, *uids]

    def _keep(self, connection, study_uid, uid, patient, patient_id, description, number) -> None:
        header = Header(
            sop_class_uid=_CT, sop_instance_uid=uid, study_uid=study_uid,
            series_uid=f"{study_uid}.1", transfer_syntax_uid="1.2.840.10008.1.2.1",
            instance_number=str(number), patient_id=patient_id, patient_name=patient,
            birth_date="19700101", sex="F", study_date="20260203", study_time="091500",
            accession_number=f"A{self.made:05d}", study_description=description, modality="CT",
            series_number="2", series_description="Axial 5 mm",
        )
        path = instance_path(study_uid, header.series_uid, uid)
        catalog.add_instance(
            connection, header, path=path, size_bytes=526_400, dataset_sha256=f"{self.made:064d}",
            now=self.now - timedelta(minutes=30),
        )

    def queued(
        self, study: list[str], ae_title: str = "MONTAGE", *, ago: float = 60, **more
    ) -> int:
        """Queue a job of a study that came `ago` seconds before now."""
        created = self.now - timedelta(seconds=ago)
        new = NewJob(
            ae_title=ae_title, study_uid=study[0], series_uid="", priority=0,
            calling_ae_title="CT1", address="10.1.4.20", input_digest=f"{self.made:064x}",
            inputs=tuple(study[1:]), result_seed="seed", incomplete=more.pop("incomplete", False),
            first_instance_at=created - timedelta(seconds=9),
            last_instance_at=created - timedelta(seconds=2),
            stream_name=more.pop("stream_name", "Montage"), stream_version="1.0.0", **more,
        )
        with self.db.write() as connection:
            return jobs.create(connection, new, created)

    def running(self, job_id: int, *, ago: float = 14, log: str = _LOG) -> Job:
        """Let a worker claim a queued job, the only one of its stream that is queued."""
        start = self.now - timedelta(seconds=ago)
        with self.db.read() as connection:
            ae_title = jobs.get(connection, job_id).ae_title
        job = attempts.claim_next(
            self.db, ae_title, lanes=99, worker=WORKER, lease=timedelta(minutes=1), now=start
        )
        assert job is not None and job.id == job_id
        attempts.begin_step(self.db, job, "prepare", start)
        attempts.begin_step(self.db, job, "run", start + timedelta(seconds=0.4))
        attempts.note_run(
            self.db, job, executor="container", image="brookbox/montage:1.0.0",
            image_id="sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        )
        folder = self.layout.job(job_id)
        folder.output.mkdir(parents=True)
        folder.log.write_text(log)
        folder.info.write_text(json.dumps({"job": job_id, "called": ae_title}))
        return job

    def ended(self, job: Job, end: Finish, *, ago: float = 5, results: int = 0) -> int:
        """End a running job, with so many results."""
        at = self.now - timedelta(seconds=ago)
        attempts.begin_step(self.db, job, "import results", at - timedelta(seconds=0.3))
        with self.db.write() as connection:
            study = catalog.find_study(connection, job.study_uid)
            assert study is not None
            for number in range(1, results + 1):
                self._result(connection, job, study, number)
            attempts.finish(connection, job, end, at)
        return job.id

    def _result(self, connection, job: Job, study, number: int) -> None:
        uid = derived_uid(f"job {job.id}", str(number))
        series_uid = derived_uid(f"job {job.id}", "series")
        header = Header(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_instance_uid=uid,
            study_uid=job.study_uid, series_uid=series_uid,
            transfer_syntax_uid="1.2.840.10008.1.2.1", instance_number=str(number),
            patient_id=study.patient_id, patient_name=study.patient_name, modality="OT",
            series_number="9000", series_description="Montage",
        )
        path = instance_path(job.study_uid, series_uid, uid)
        file = self.layout.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(128) + b"DICM" + bytes([number]) * 70_000)
        catalog.add_instance(
            connection, header, path=path, size_bytes=70_132, dataset_sha256="0" * 64,
            now=self.now, made_by_job=job.id,
        )

    def succeeded(self, study: list[str], results: int = 2, **more) -> int:
        """Make a job that has ended well."""
        job = self.running(self.queued(study, **more), ago=40)
        end = Finish("success", result_count=results, exit_code=0, peak_memory_bytes=212_000_000)
        return self.ended(job, end, ago=12, results=results)

    def failed(self, study: list[str], **more) -> int:
        """Make a job that ran out of memory."""
        job = self.running(self.queued(study, ago=400, **more), ago=150)
        end = Finish(
            "failed", reason="It ran out of memory at 2 GB: raise memory_gb in info.json.",
            remedy="raise memory_gb in streams/montage/info.json, then retry", exit_code=137,
            peak_memory_bytes=2 * 1024**3,
        )
        return self.ended(job, end, ago=16)

    def delivery(self, job_id: int, destination: str, state: str) -> int:
        """Make a delivery of a job's results, in this state."""
        now = self.now
        with self.db.write() as connection:
            uids = [one.sop_instance_uid for one in catalog.results_of(connection, job_id)]
            made = deliveries.create(
                connection, job_id=job_id, destination=destination, what="output",
                rule="results to the PACS", instances=uids, now=now - timedelta(seconds=9),
            )
            deliveries.mark_routed(connection, job_id, "1 rule matched.", now)
        assert made is not None
        if state == "due":
            return made
        one = deliveries.claim_due(
            self.db, busy=(), router="node1/1/1.00", lease=timedelta(minutes=1), now=now
        )
        assert one is not None and one.id == made
        first = deliveries.Sent(uids[0], "sent", 0x0000, "", now)
        if state == "delivered":
            sent = [deliveries.Sent(uid, "sent", 0x0000, "", now) for uid in uids]
            deliveries.note_instances(self.db, one, sent)
            deliveries.delivered(self.db, one, f"{len(uids)} instances were kept.", now)
        elif state == "gave_up":
            refused = deliveries.Sent(uids[-1], "failed", 0xA900, "", now)
            deliveries.note_instances(self.db, one, [first, refused])
            deliveries.give_up(
                self.db, one, "The PACS refused 1 of 2 instances for good.",
                "look at what it said of each, then send again", now,
            )
        elif state == "later":
            deliveries.retry_at(
                self.db, one, now + timedelta(minutes=4),
                "Nobody answers at 10.1.4.9:104.", "start the PACS, or mend routing.yaml",
            )
        return made

    def arriving(self, study: list[str], ae_title: str = "MONTAGE", *, is_open: bool = True) -> int:
        """Let a study come in from CT2."""
        self.made += 1
        association = f"assoc{self.made:08d}"
        start = self.now - timedelta(seconds=12)
        arrivals.open_association(
            self.db, Association(association, ae_title, "CT2", "10.1.4.21", "node1/9/1.00", start)
        )
        arrival = None
        with self.db.write() as connection:
            for n, uid in enumerate(study[1:], 1):
                arrival = arrivals.receive(
                    connection,
                    Reception(uid, study[0], f"{study[0]}.1", ae_title, "CT2", "10.1.4.21",
                              association, start + timedelta(seconds=n / 10)),
                    "study",
                )
        if not is_open:
            arrivals.close_association(
                self.db, association, Ending.RELEASED, self.now - timedelta(seconds=4),
                instances=len(study) - 1, failures=0,
            )
        assert arrival is not None
        return arrival

    def identical(self, study: list[str], job_id: int, ae_title: str = "MONTAGE") -> int:
        """Let the study of a job come in again, unchanged."""
        arrival_id = self.arriving(study, ae_title, is_open=False)
        found = [one for one in arrivals.open_arrivals(self.db, self.now) if one.id == arrival_id]
        with self.db.write() as connection:
            arrivals.close_arrival(
                connection, found[0], self.now, reason="Nothing came for 2 s.", incomplete=False,
                digest="d", note=f"Identical to job {job_id}; nothing done.", job_id=job_id,
            )
        return arrival_id

    def services(self, *names: str) -> None:
        """Let these services beat now."""
        for number, name in enumerate(names, 1):
            beats.beat(self.db, f"node1/{number}/1.00", name, self.now)

    def lane(
        self, ae_title: str, why_not: str = "", remedy: str = "", job: int | None = None,
        executor: str = "container", is_confined: bool = True,
    ):  # fmt: skip
        """Let the worker offer a lane for a stream, or say why not."""
        seat = Lane(
            id=f"{WORKER} {ae_title} 0", worker=f"{WORKER}{ae_title}", ae_title=ae_title,
            is_open=not why_not, why_not=why_not, remedy=remedy,
            executor="" if why_not else executor, job_id=job, last_beat_at=self.now,
            is_confined=is_confined,
        )
        lanes.beat(self.db, seat.worker, [seat])

    def refused(self, called: str, meant: str) -> None:
        """Let an association have been refused."""
        with self.db.write() as connection:
            events.append(
                connection, "association refused",
                f"CT2 at 10.1.4.21 called {called}, which no stream has. Did you mean {meant}?",
                self.now - timedelta(minutes=3), called_ae_title=called,
            )
