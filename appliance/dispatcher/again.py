"""Run a job again because a person wants it: a new job of the same input, with new result UIDs."""

from __future__ import annotations

from datetime import datetime

from appliance.dispatcher.launch import new_seed
from appliance.errors import JobError
from appliance.index import events, job_list, jobs
from appliance.index.database import Database
from appliance.index.jobs import Job, NewJob
from appliance.index.states import ACTIVE


def run_again(db: Database, job_id: int, who: str, now: datetime) -> Job:
    """Queue a new job over the input of an ended one.

    The caller rings the dispatcher's bell.  NotFound when there is no such job;
    JobError when it has not ended yet, or its input is not kept any more.
    """
    with db.write() as connection:
        old = jobs.get(connection, job_id)
        if old.state in ACTIVE:
            raise JobError(
                f"job {job_id} is {old.state}: it has not ended yet",
                remedy=f"wait for it, or first: brookbox jobs cancel {job_id}",
            )
        inputs = tuple(one.sop_instance_uid for one in job_list.inputs_of(connection, job_id))
        if len(inputs) < old.input_count:
            raise JobError(
                f"only {len(inputs)} of the {old.input_count} instances of job {job_id} are kept",
                remedy=f"send the study again to {old.ae_title}",
            )
        new_id = jobs.create(connection, _copy_of(old, inputs), now)
        events.append(
            connection,
            "job run again",
            f"{who} ran job {job_id} again as job {new_id}.",
            now,
            who=who,
            study_uid=old.study_uid,
            job_id=new_id,
        )
        return jobs.get(connection, new_id)


def _copy_of(old: Job, inputs: tuple[str, ...]) -> NewJob:
    return NewJob(
        ae_title=old.ae_title,
        study_uid=old.study_uid,
        series_uid=old.series_uid,
        priority=old.priority,
        calling_ae_title=old.calling_ae_title,
        address=old.address,
        input_digest=old.input_digest,
        inputs=inputs,
        result_seed=new_seed(),
        incomplete=old.incomplete,
        first_instance_at=old.first_instance_at,
        last_instance_at=old.last_instance_at,
        stream_name=old.stream_name,
        stream_version=old.stream_version,
        run_again_of=old.id,
    )
