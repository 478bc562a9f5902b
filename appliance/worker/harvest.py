"""Read what a run left in OUTPUT, which may be hostile, and stage its results.

Only regular files of the run's own user with a single name are opened, beneath
OUTPUT, without following a link or waiting for a FIFO; names are never used as
paths.  DICOM files are checked like received ones; other files stay for download.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from appliance.dicom.header import Header
from appliance.disk.layout import JobFolder, Layout
from appliance.errors import InstanceRefused
from appliance.index import catalog, job_list
from appliance.index.catalog import Instance
from appliance.index.database import Database
from appliance.index.jobs import Job
from appliance.intake import results
from appliance.intake.results import StagedResult
from appliance.worker.progress import one_line

_DEEPEST = 16
_OWN_FILES = (b"proc.json", b"progress.json")
_DICOM_ENDINGS = (b".dcm", b".dicom", b".ima")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Rules:
    """What a harvest needs to know of the node, the stream and its run."""

    node_ae_title: str
    changes_patient: bool
    most_entries: int
    owners: frozenset[int]  # the users whose files may be results


@dataclass(slots=True)
class Harvest:
    """What was found: results that are staged, and how many of the other kinds.

    `refused` are sentences, one for each result that is no good; `odd` counts
    links, FIFOs, devices and what is nested too deep.
    """

    staged: list[StagedResult] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    others: int = 0
    odd: int = 0
    same_as_input: int = 0


def harvest(
    db: Database, layout: Layout, job: Job, folder: JobFolder, rules: Rules
) -> Harvest:
    """Stage every good result of an attempt; NoSpace, DiskError and IndexUnavailable."""
    found = Harvest()
    with db.read() as connection:
        inputs = {one.sop_instance_uid: one for one in job_list.inputs_of(connection, job.id)}
        study = catalog.find_study(connection, job.study_uid)
    patients = Patients(layout, list(inputs.values()), study)
    for name, file in _files(folder, rules, found):
        with file:
            _take(layout, job, name, file, rules, found)
    _refuse_strangers(found, job, patients, rules)
    _drop_doubles(found)
    _drop_inputs(found, inputs)
    refuse_taken(db, job, found)
    return found


def refuse_taken(db: Database, job: Job, found: Harvest) -> None:
    """Refuse the results whose SOP Instance UID is another instance's."""
    for one in results.taken(db, job, found.staged):
        _refuse(found, one, "its SOP Instance UID is that of an instance that is kept already")
