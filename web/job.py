"""One job: how it stands, its steps, its log, its results, where they went."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, g, jsonify
from flask.typing import ResponseReturnValue

from appliance.health.job_sentences import fate_when_superseded, why_and_message
from appliance.index import arrival_list, catalog, deliveries, events, figures, job_list
from appliance.index import jobs as index_jobs
from appliance.index.arrival_list import ArrivalRow
from appliance.index.catalog import Instance, Series, Study
from appliance.index.deliveries import Delivery
from appliance.index.events import Event
from appliance.index.jobs import Job
from appliance.index.states import ACTIVE, JobState
from web import job_files
from web.frame import page
from web.headline import headline
from web.job_facts import facts_of, removed_of
from web.job_files import OutputFile
from web.job_log import LogTail, tail
from web.node import Node, node
from web.timeline import Bar, timeline

job = Blueprint("job", __name__)

_INPUTS_SHOWN = 200
_EVENTS_SHOWN = 100
_NOT_RESULTS = {"proc.json", "progress.json"}


@dataclass(frozen=True, slots=True)
class JobPage:
    """Everything the page of one job shows."""

    job: Job
    headline: str
    study: Study | None
    arrival: ArrivalRow | None
    bars: list[Bar]
    results: list[Instance]
    files: list[OutputFile]
    inputs: list[Instance]
    series: list[Series]
    deliveries: list[Delivery]
    events: list[Event]
    log: LogTail
    info: str
    proc: str
    removed: list[str]
    facts: list[tuple[str, str]]

    @property
    def stream_says(self) -> str:
        """Give what its stream says, when the headline does not say so already."""
        reason, message = why_and_message(self.job.reason, self.job.message)
        return message if reason else ""

    @property
    def fate(self) -> str:
        """Say what became of its results, when it is superseded."""
        return fate_when_superseded(self.job, self.deliveries)

    @property
    def is_active(self) -> bool:
        """Say whether it waits or runs."""
        return self.job.state in ACTIVE

    @property
    def can_retry(self) -> bool:
        """Say whether it can be retried: the same job, the same result UIDs."""
        return self.job.state in (JobState.FAILED, JobState.CANCELLED) and not self.lacks_input

    @property
    def can_run_again(self) -> bool:
        """Say whether a new job can be made of the same input."""
        return self.job.state in (JobState.SUCCEEDED, JobState.PARTIAL) and not self.lacks_input

    @property
    def can_download(self) -> bool:
        """Say whether there is something to take away, and nothing more comes."""
        return not self.is_active and bool(self.results or self.files)

    @property
    def lacks_input(self) -> bool:
        """Say whether some of its input has been removed."""
        return len(self.inputs) < self.job.input_count

    @property
    def result_bytes(self) -> int:
        """Add up its results and other files."""
        return sum(r.size_bytes for r in self.results) + sum(f.size_bytes for f in self.files)

    @property
    def shown_inputs(self) -> list[Instance]:
        """Give the first of its input; a study may have thousands."""
        return self.inputs[:_INPUTS_SHOWN]

    @property
    def series_by_uid(self) -> dict[str, Series]:
        """Map the series of the study by UID."""
        return {one.series_uid: one for one in self.series}


@job.get("/jobs/<int:job_id>")
def show(job_id: int) -> ResponseReturnValue:
    """Show the page."""
    return page("job.html", page=read_job(job_id))


@job.get("/api/v1/jobs/<int:job_id>")
def show_json(job_id: int) -> ResponseReturnValue:
    """Give the job to a program."""
    found = read_job(job_id)
    facts = {name: getattr(found, name) for name in JobPage.__slots__ if name not in _NOT_IN_JSON}
    facts["input_uids"] = [one.sop_instance_uid for one in found.inputs]
    marked = [one for one in found.inputs if one.marks]
    facts["marks"] = {one.sop_instance_uid: one.marks.split(",") for one in marked}
    facts["info"], facts["proc"] = _loaded(found.info), _loaded(found.proc)
    return jsonify(facts)


_NOT_IN_JSON = {"log", "inputs", "facts"}


def read_job(job_id: int) -> JobPage:
    """Gather the page; NotFound when there is no such job."""
    if job_id >= 2**63:
        abort(404)
    here, now = node(), g.now
    folder = here.layout.job(job_id)
    with here.db.read() as connection:
        found = index_jobs.get(connection, job_id)
        arrival = arrival_list.of_job(connection, job_id)
        sent = deliveries.deliveries_of(connection, job_id)
        steps = job_list.steps_of(connection, job_id)
        results = catalog.results_of(connection, job_id)
        inputs = job_list.inputs_of(connection, job_id)
        study = catalog.find_study(connection, found.study_uid)
        series = catalog.series_of(connection, found.study_uid)
        happened = events.latest(connection, _EVENTS_SHOWN, job_id=job_id)
    return JobPage(
        job=found,
        headline=_headline(found, here),
        study=study,
        arrival=arrival,
        bars=timeline(found, steps, sent, arrival.reason if arrival else "", now),
        results=results,
        files=other_files(here, job_id, has_results=bool(results)),
        inputs=inputs,
        series=series,
        deliveries=sent,
        events=happened,
        log=tail(folder.log),
        info=job_files.read_text(folder.info),
        proc=job_files.read_text(folder.proc),
        removed=removed_of(
            found,
            has_folder=folder.path.exists(),
            results=len(results),
            inputs=len(inputs),
        ),
        facts=facts_of(found),
    )


def other_files(here: Node, job_id: int, *, has_results: bool) -> list[OutputFile]:
    """List what is in OUTPUT beside the instances that became results.

    Where there are results, the DICOM files in OUTPUT are what they were made of.
    """
    output = here.layout.job(job_id).output
    files = [file for file in job_files.list_files(output) if file.name not in _NOT_RESULTS]
    if not has_results:
        return files
    return [file for file in files if not job_files.is_dicom(output, file)]


def _headline(found: Job, here: Node) -> str:
    before, usual = 0, None
    with here.db.read() as connection:
        if found.state == JobState.QUEUED:
            before = figures.queued_before(connection, found)
        if found.state == JobState.RUNNING:
            usual = figures.usual_seconds(connection, found.ae_title)
    return headline(found, g.now, before=before, usual_seconds=usual)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


