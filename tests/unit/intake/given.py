"""What tests give to intake, and what they ask of its index and store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from pydicom.dataset import Dataset

from appliance.dicom import part10
from appliance.disk.layout import Layout
from appliance.index import catalog
from appliance.index.attempts import claim_next
from appliance.index.database import Database
from appliance.index.jobs import Job, NewJob, create
from appliance.intake import results
from appliance.intake.filing import Sender
from tests.kit.dicom import ct_slice, write

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CT1 = Sender("ECHO", "CT1", "10.0.0.9", "a1", port=4711, local="dicom:10.0.0.1:11113")
LITTLE = "1.2.840.10008.1.2.1"


def bytes_of(ds: Dataset, folder: Path) -> bytes:
    path = write(ds, folder / "made.dcm")
    return path.read_bytes()[part10.read_meta(path)[1] :]


def stored(layout: Layout) -> list[Path]:
    return sorted(path for path in layout.studies.rglob("*") if path.is_file())


def waiting(layout: Layout) -> list[Path]:
    return [path for path in layout.incoming.rglob("*") if path.is_file()]


def count(db: Database, table: sa.Table) -> int:
    with db.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def instance(db: Database, ds: Dataset) -> catalog.Instance:
    with db.read() as connection:
        found = catalog.find_instance(connection, ds.SOPInstanceUID)
    assert found is not None
    return found


def running_job(db: Database, ds: Dataset, ae_title: str = "ECHO") -> Job:
    with db.write() as connection:
        create(
            connection,
            NewJob(
                ae_title=ae_title,
                study_uid=ds.StudyInstanceUID,
                series_uid="",
                priority=0,
                calling_ae_title="CT1",
                address="10.0.0.9",
                input_digest="d",
                inputs=(ds.SOPInstanceUID,),
                result_seed="s",
                incomplete=False,
                first_instance_at=NOW,
                last_instance_at=NOW,
            ),
            NOW,
        )
    job = claim_next(db, ae_title, lanes=1, worker="h/1/1", lease=timedelta(seconds=60), now=NOW)
    assert job is not None
    return job


def result_of(ds: Dataset, folder: Path) -> Path:
    result = ct_slice(9, study_uid=ds.StudyInstanceUID, size=8)
    return write(result, folder / "result.dcm")


def stage(layout: Layout, job: Job, path: Path) -> results.StagedResult:
    with path.open("rb") as source:
        return results.stage(
            layout, job, path.name, source, node_ae_title="BROOKBOX",
            expected_study=job.study_uid, expected_patient="P-SEEDED-1",
        )  # fmt: skip
