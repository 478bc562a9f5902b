"""What happened to a study, a job or an AE title, in sentences, for `brookbox why`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from appliance.amounts import count
from appliance.disk import quarantine_list
from appliance.disk.layout import Layout
from appliance.health.gone_streams import gone_streams
from appliance.health.job_sentences import fate_when_superseded, said
from appliance.health.node_checks import best_lanes
from appliance.index import catalog, deliveries, events, job_list, jobs, lanes, story
from appliance.index.database import Connection, Database
from appliance.index.jobs import Job
from appliance.index.states import DeliveryState, Ending, JobState
from appliance.index.story import Associated
from appliance.settings import Settings
from appliance.streams.catalog import Streams, streams_of

_EVENTS = 20
_ASSOCIATIONS = 10


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
            lines.append(f"{_time(event.at)}: {event.sentence}")
    return lines


def of_job(db: Database, job_id: int) -> list[str]:
    """Tell of a job; NotFound when there is none."""
    with db.read() as connection:
        job = jobs.get(connection, job_id)
        lines = [f"Job {job.id} is {job.ae_title} over study {job.study_uid}."]
        lines += _job(connection, job)
        for event in events.latest(connection, _EVENTS, job_id=job_id)[::-1]:
            lines.append(f"{_time(event.at)}: {event.sentence}")
    return lines


def of_ae_title(db: Database, settings: Settings, ae_title: str) -> list[str]:
    """Tell of an AE title: whose it is, what it can do, who called it or whom it called."""
    layout = Layout(settings.data_root)
    lines = _whose(db, settings, ae_title)
    with db.read() as connection:
        for one in story.associations_of(connection, ae_title, _ASSOCIATIONS)[::-1]:
            lines.append(
                f"{_time(one.opened_at)}: {one.calling_ae_title} at {one.address} called "
                f"{one.called_ae_title}; {count(one.instances, 'instance')} kept, {_ended(one)}."
            )
        for event in story.events_about(connection, ae_title, _EVENTS)[::-1]:
            lines.append(f"{_time(event.at)}: {event.sentence}")
    for entry in quarantine_list.newest(layout, _EVENTS)[::-1]:
        if ae_title in (entry.called_ae_title, entry.calling_ae_title):
            lines.append(
                f"{_time(entry.received_at)}: an instance from {entry.calling_ae_title} for "
                f"{entry.called_ae_title} is in quarantine ({entry.id}): {entry.reason}"
            )
    return lines


def _ended(one: Associated) -> str:
    if one.ending == Ending.UNKNOWN:
        return "how it ended is not known: this was read again from the files"
    return f"{one.failures} refused, {one.ending or 'open still'}"


def _kept(connection: Connection, study_uid: str) -> Iterator[str]:
    instances = catalog.instances_of_study(connection, study_uid)
    results = sum(instance.made_by_job is not None for instance in instances)
    if instances:
        received = count(len(instances) - results, "received instance")
        yield f"{received} and {count(results, 'result')} of it are kept."
    for came in story.receptions_of(connection, study_uid):
        yield (
            f"{came.calling_ae_title} at {came.address} sent {count(came.instances, 'instance')} "
            f"to {came.called_ae_title}, the last at {_time(came.last_at)}."
        )


def _arrived(connection: Connection, study_uid: str) -> Iterator[str]:
    for one in story.arrivals_of(connection, study_uid):
        if one.state == "open":
            yield (
                f"It is still arriving for {one.called_ae_title}; the last instance came at "
                f"{_time(one.last_instance_at)}."
            )
            continue
        maybe = " It is possibly incomplete." if one.incomplete else ""
        made = one.note or (f"It became job {one.job_id}." if one.job_id else "No job was made.")
        yield (
            f"For {one.called_ae_title} it was taken as whole at {_time(one.closed_at)}: "
            f"{one.reason}{maybe} {made}"
        )


def _job(connection: Connection, job: Job) -> Iterator[str]:
    name = f"Job {job.id} ({job.ae_title})"
    if job.state == JobState.QUEUED:
        yield f"{name} waits{': ' + job.wait_reason if job.wait_reason else ' for its turn.'}"
    elif job.state == JobState.RUNNING:
        yield f"{name} runs since {_time(job.started_at)}, attempt {job.attempt}."
        if job.cancel_requested:
            yield f"  It is being cancelled by {job.cancelled_by}."
    else:
        why, results = said(job.reason, job.message), count(job.result_count, "result")
        yield f"{name} {job.state} at {_time(job.ended_at)} with {results}. {why}".rstrip()
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
        when = f" (due {_time(one.due_at)})" if one.state == DeliveryState.DUE else ""
        yield f"  Delivery {one.id} to {one.destination}: {one.state}{when}. {one.message}".rstrip()


def _whose(db: Database, settings: Settings, ae_title: str) -> list[str]:
    if ae_title == settings.node.ae_title:
        return [f"{ae_title} is the node itself: it answers echo and keeps without processing."]
    streams = streams_of(settings)
    stream = streams.find(ae_title)
    if stream is None:
        with db.read() as connection:
            sender = list(_sender(connection, ae_title))
            gone = gone_streams(connection, streams, settings.streams_folder)
        lost = [f"{one.sentence} Try: {one.remedy}" for one in gone if one.ae_title == ae_title]
        return lost + sender + _unknown(streams, ae_title)
    lines = [f"{ae_title} is the stream in {stream.folder}."]
    lines += [f"{stream.folder.name}/{problem}" for problem in stream.problems]
    with db.read() as connection:
        is_off = ae_title in lanes.switched_off(connection)
        waiting = job_list.waiting_by_stream(connection).get(ae_title, 0)
    lane = best_lanes(db).get(ae_title)
    if not stream.is_good:
        lines.append("It cannot serve: its associations are refused (1,1,7).")
    elif is_off or not stream.is_enabled:
        lines.append("It is switched off: its associations are refused (1,1,7).")
    elif lane is None:
        lines.append("No worker serves it just now: what comes is kept and waits.")
    elif not lane.is_open:
        lines.append(f"It cannot run just now: {lane.why_not} Try: {lane.remedy}")
    else:
        lines.append(f"It can run ({lane.executor}).")
    studies = "1 study waits" if waiting == 1 else f"{waiting} studies wait"
    lines.append(f"{studies} for it; above {settings.jobs.max_waiting} it refuses.")
    return lines


def _sender(connection: Connection, ae_title: str) -> Iterator[str]:
    """Say whom an AE title called; nothing when nobody by that name ever called us."""
    called = story.called_by(connection, ae_title)
    for one in called:
        at = _time(one.last_at)
        yield f"{ae_title} is a sender: it called {one.called_ae_title}, the last time at {at}."
    if not called and story.was_refused(connection, ae_title):
        yield f"{ae_title} is a sender: it called this node, and was refused."


def _unknown(streams: Streams, ae_title: str) -> list[str]:
    meant = streams.meant(ae_title)
    hint = f" Did you mean {meant}? AE titles are compared exactly." if meant else ""
    return [f"No stream has the AE title {ae_title}: who calls it is refused (1,1,7).{hint}"]


def _time(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else "?"
