"""The list of jobs, with what is still coming in above it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, g, jsonify, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from appliance.index import figures, job_list
from appliance.index.catalog import Study
from appliance.index.job_list import Filter
from appliance.index.jobs import Job
from appliance.index.states import JobState
from web.arriving import Arriving, arriving_now, nothing_done
from web.frame import page
from web.node import node

jobs = Blueprint("jobs", __name__)

TABS = (
    JobState.FAILED, JobState.RUNNING, JobState.QUEUED,
    JobState.PARTIAL, JobState.SUCCEEDED, JobState.CANCELLED,
)
_ROWS = 50
_LONGEST_TEXT = 100
_SHOWN_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as the list shows it; `sent` are the (destination, state) of its deliveries."""

    job: Job
    study: Study | None
    sent: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class JobsPage:
    """One page of the list: what it was filtered by, its rows, and where it goes on."""

    filter: Filter
    counts: dict[str, int]
    jobs: list[JobRow]
    next_before: int | None
    streams: list[str]
    arriving: list[Arriving] = field(default_factory=list)
    nothing_done: list[Arriving] = field(default_factory=list)

    @property
    def is_filtered(self) -> bool:
        """Say whether anything narrows the list."""
        return bool(self.filter.states or self.filter.ae_title or self.filter.text)

    @property
    def tabs(self) -> list[tuple[str, str, int]]:
        """List the tabs: state, address, how many there are; "" is all of them."""
        tabs = [("", self.address(state=""), sum(self.counts.values()))]
        return tabs + [(s, self.address(state=s), self.counts[s]) for s in TABS]

    def address(self, **changed: str | int) -> str:
        """Give the address of this list with something changed; a change begins at its top."""
        now: dict[str, str | int] = {
            "state": self.filter.states[0] if self.filter.states else "",
            "stream": self.filter.ae_title,
            "q": self.filter.text,
            "before": 0,
        }
        kept = {name: value for name, value in {**now, **changed}.items() if value}
        return f"{url_for('jobs.list_jobs')}?{urlencode(kept)}" if kept else "/jobs"


@jobs.get("/jobs")
def list_jobs() -> ResponseReturnValue:
    """Show the list."""
    return page("jobs.html", list=_page(asked_filter()))


@jobs.get("/api/v1/jobs")
def list_jobs_json() -> ResponseReturnValue:
    """Give the list to a program."""
    found = _page(asked_filter())
    return jsonify(
        jobs=[_plain(row) for row in found.jobs],
        counts=found.counts,
        next_before=found.next_before,
    )


def asked_filter() -> Filter:
    """Read the filter out of the address."""
    state = request.args.get("state", "")
    if state and state not in set(JobState):
        raise BadRequest(f"{state} is no state of a job. There are: {', '.join(JobState)}.")
    before = request.args.get("before", "0")
    if not before.isdecimal() or len(before) > 18:
        raise BadRequest("before must be the number of a job.")
    return Filter(
        states=(state,) if state else (),
        ae_title=request.args.get("stream", "")[:16],
        text=request.args.get("q", "").strip()[:_LONGEST_TEXT],
        before=int(before),
    )


def _page(asked: Filter) -> JobsPage:
    here = node()
    with here.db.read() as connection:
        found = job_list.jobs_matching(connection, asked, _ROWS + 1)
        studies = job_list.studies_of(connection, found)
        sent = figures.delivery_states(connection, [job.id for job in found])
        counts = job_list.count_by_state(connection, asked.ae_title)
    rows = [
        JobRow(job, studies.get(job.study_uid), tuple(sent.get(job.id, ())))
        for job in found[:_ROWS]
    ]
    is_top = asked == Filter()
    return JobsPage(
        filter=asked,
        counts=counts,
        jobs=rows,
        next_before=rows[-1].job.id if len(found) > _ROWS else None,
        streams=_stream_choices(asked.ae_title),
        arriving=arriving_now(here, g.now) if is_top else [],
        nothing_done=nothing_done(here, g.now - _SHOWN_FOR) if is_top else [],
    )


def _stream_choices(chosen: str) -> list[str]:
    titles = {stream.ae_title for stream in node().streams().all if stream.ae_title}
    return sorted(titles | ({chosen} if chosen else set()))


def _plain(row: JobRow) -> dict[str, Any]:
    return {**_fields(row.job), "study": row.study, "deliveries": row.sent}


def _fields(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in Job.__slots__}
