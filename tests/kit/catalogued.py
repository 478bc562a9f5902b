"""Instances in the catalog without files, for tests that play the receiver."""

from __future__ import annotations

import hashlib
from datetime import datetime

import sqlalchemy as sa

from appliance.dicom.header import Header
from appliance.disk.layout import instance_path
from appliance.index import catalog


def add(
    connection: sa.Connection,
    study_uid: str,
    number: int,
    now: datetime,
    made_by_job: int | None = None,
) -> str:
    """Add one CT instance of a study's only series, if it is new; its SOP Instance UID."""
    series_uid, uid = f"{study_uid}.1", f"{study_uid}.1.{number}"
    header = Header(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=uid,
        study_uid=study_uid,
        series_uid=series_uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        instance_number=str(number),
        modality="CT",
    )
    catalog.add_instance(
        connection,
        header,
        path=instance_path(study_uid, series_uid, uid),
        size_bytes=1000,
        dataset_sha256=hashlib.sha256(uid.encode()).hexdigest(),
        now=now,
        made_by_job=made_by_job,
    )
    return uid
