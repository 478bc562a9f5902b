"""What happened to a study or a job, in sentences, for `brookbox why`."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.amounts import count
from appliance.health.job_sentences import fate_when_superseded, said
from appliance.health.story_of_ae_title import time_of
from appliance.index import catalog, deliveries, events, job_list, jobs, story
from appliance.index.database import Connection, Database
from appliance.index.jobs import Job
from appliance.index.states import DeliveryState, JobState

_EVENTS = 20


def of_study(db: Database, study_uid: str) -> list[str]:
    """Tell of a study: what came, what became of it, where it went; nothing when unknown."""
    with db.read() as connection:
        lines = [
            *_kept(connection, study_uid),
            *_arrived(connection, study_uid),
        ]
        wanted = job_list.Filter(study_uid=study_uid)
        for job in job_list.jobs_matching(connection, wanted, 100)[::-1]:
            lines += _job(connection, job)
        for event in events.latest(connection, _EVENTS, study_uid=study_uid)[::-1]:
            lines.append(f"{time_of(event.at)}: {event.sentence}")
    return lines


def of_job(db: Database, job_id: int) -> list[str]:
    """Tell of a job; NotFound when there is none."""
    with db.read() as connection:
        job = jobs.get(connection, job_id)
        lines = [f"Job {job.id} is {job.ae_title} over study {job.study_uid}."]
        lines += _job(connection, job)
        for event in events.latest(connection, _EVENTS, job_id=job_id)[::-1]:
            lines.append(f"{time_of(event.at)}: {event.sentence}")
    return lines


def _kept(connection: Connection, study_uid: str) -> Iterator[str]:
    instances = catalog.instances_of_study(connection, study_uid)
    results = sum(instance.made_by_job is not None for instance in instances)
    if instances:
        received = count(len(instances) - results, "received instance")
        yield f"{received} and {count(results, 'result')} of it are kept."
    for came in story.receptions_of(connection, study_uid):
        yield (
            f"{came.calling_ae_title} at {came.address} sent {count(came.instances, 'instance')} "
            f"to {came.called_ae_title}, the last at {time_of(came.last_at)}."
        )


def _arrived(connection: Connection, study_uid: str) -> Iterator[str]:
    for one in story.arrivals_of(connection, study_uid):
        if one.state == "open":
            yield (
                f"It is still arriving for {one.called_ae_title}; the last instance came at "
                f"{time_of(one.last_instance_at)}."
            )
            continue
        maybe = " It is possibly incomplete." if one.incomplete else ""
        made = one.note or (f"It became job {one.job_id}." if one.job_id else "No job was made.")
        yield (
            f"For {one.called_ae_title} it was taken as whole at {time_of(one.closed_at)}: "
            f"{one.reason}{maybe} {made}"
        )


def _job(connection: Connection, job: Job) -> Iterator[str]:
    name = f"Job {job.id} ({job.ae_title})"
    if job.state == JobState.QUEUED:
        yield f"{name} waits{': ' + job.wait_reason if job.wait_reason else ' for its turn.'}"
    elif job.state == JobState.RUNNING:
        yield f"{name} runs since {time_of(job.started_at)}, attempt {job.attempt}."
        if job.cancel_requested:
            yield f"  It is being cancelled by {job.cancelled_by}."
    else:
        why, results = said(job.reason, job.message), count(job.result_count, "result")
        yield f"{name} {job.state} at {time_of(job.ended_at)} with {results}. {why}".rstrip()
        if job.remedy:
            yield f"  try: {job.remedy}"
    if job.is_held:
        yield f"  Its results wait for a person: brookbox jobs release {job.id}"
    sent = deliveries.deliveries_of(connection, job.id)
    if job.superseded_by is not None:
        fate = fate_when_superseded(job, sent)
        yield f"  It was superseded by job {job.superseded_by}, which has more of the study. {fate}"
    if job.routing_note:
        yield f"  {job.routing_note}"
    for one in sent:
        when = f" (due {time_of(one.due_at)})" if one.state == DeliveryState.DUE else ""
        yield f"  Delivery {one.id} to {one.destination}: {one.state}{when}. {one.message}".rstrip()
