"""job.json: the job as it ended, beside its log, so that the index can be made again from it."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from datetime import datetime
from typing import Any

from appliance import logs
from appliance.disk.layout import Layout
from appliance.disk.sync import plain_errors, sync_file, sync_path
from appliance.disk.trees import remove_tree
from appliance.errors import DiskError, NotFound
from appliance.index import catalog, job_list, jobs
from appliance.index.database import Connection, Database
from appliance.index.jobs import Job
from appliance.index.states import ENDED


def settle(db: Database, layout: Layout, job_id: int) -> bool:
    """Write the record of an ended job and remove what it ran on; False when it has not ended.

    INPUT goes since its links would keep the space of a study that is removed.
    """
    with db.read() as connection:
        job = jobs.get(connection, job_id)
        if job.state not in ENDED:
            return False
        content = record_of(connection, job)
    folder = layout.job(job_id)
    for path in folder.of_a_run if folder.path.exists() else ():
        remove_tree(path)
    _write(layout, job_id, content)
    return True


def settle_all(db: Database, layout: Layout) -> int:
    """Do the same for ended jobs whose worker did not come to it; how many there were."""
    done = 0
    for entry in sorted(os.scandir(layout.jobs), key=lambda entry: entry.name):
        if not entry.name.isascii() or not entry.name.isdigit():
            continue
        folder = layout.job(int(entry.name))
        if folder.record.exists() and not any(path.exists() for path in folder.of_a_run):
            continue
        try:
            done += settle(db, layout, int(entry.name))
        except NotFound:  # the housekeeper's
            continue
        except DiskError as error:  # tried again with the next tidying
            logs.get().warning("job not recorded", job=int(entry.name), said=str(error))
    return done


def settle_unrun(db: Database, layout: Layout, since: datetime) -> int:
    """Write the record of jobs that ended since then and never ran; how many there were.

    Without it a job that was cancelled while it waited would be made anew with the index.
    """
    with db.read() as connection:
        ended = job_list.ended_unrun(connection, since)
    done = 0
    for job_id in ended:
        if layout.job(job_id).path.exists():
            continue
        try:
            done += settle(db, layout, job_id)
        except NotFound:  # erased meanwhile
            continue
        except DiskError as error:  # tried again with the next tidying
            logs.get().warning("job not recorded", job=job_id, said=str(error))
    return done


def record_of(connection: Connection, job: Job) -> dict[str, Any]:
    """Give the job's columns, its inputs, its results and its steps, as JSON takes them."""
    inputs = job_list.inputs_of(connection, job.id)
    made = catalog.results_of(connection, job.id)
    steps = job_list.steps_of(connection, job.id)
    return {
        **{field.name: _plain(getattr(job, field.name)) for field in fields(Job)},
        "inputs": [one.sop_instance_uid for one in inputs],
        "results": [one.sop_instance_uid for one in made],
        "steps": [{f.name: _plain(getattr(step, f.name)) for f in fields(step)} for step in steps],
    }


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _write(layout: Layout, job_id: int, content: dict[str, Any]) -> None:
    folder = layout.job(job_id)
    part = folder.record.with_name("job.json.part")
    with plain_errors("The job's record could not be written"):
        folder.path.mkdir(mode=0o700, exist_ok=True)
        remove_tree(part)
        with part.open("x", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            sync_file(file.fileno())
        part.replace(folder.record)
    sync_path(folder.path)
