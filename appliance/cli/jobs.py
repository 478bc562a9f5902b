"""`brookbox jobs`: look at jobs, and act on one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance import bells
from appliance.amounts import of_memory
from appliance.cli import show
from appliance.cli.asked import Asked, confirm, pass_asked, who
from appliance.disk.layout import Layout
from appliance.errors import NotFound
from appliance.health.job_sentences import said, why_and_message
from appliance.index import catalog, deliveries, events, job_list
from appliance.index import jobs as index
from appliance.index.database import Database
from appliance.index.jobs import Job
from appliance.index.states import ENDED, JobState

_FOLLOW_SECONDS = 0.5


@click.group()
def jobs() -> None:
    """The jobs: list, show, log, cancel, retry, run-again, release."""


@jobs.command(name="list")
@click.option("--state", multiple=True, type=click.Choice([str(s) for s in JobState]))
@click.option("--stream", default="", help="AE title of the stream.")
@click.option("--study", default="", help="Study Instance UID.")
@click.option("--limit", default=50, show_default=True, help="How many, newest first.")
@pass_asked
def list_jobs(asked: Asked, state: tuple[str, ...], stream: str, study: str, limit: int) -> None:
    """List jobs, newest first."""
    wanted = job_list.Filter(states=state, ae_title=stream, study_uid=study)
    with _index(asked) as db, db.read() as connection:
        found = job_list.jobs_matching(connection, wanted, limit)
    if asked.as_json:
        show.as_json(found)
        return
    columns = ("job", "stream", "state", "created", "ended", "images", "results", "why")
    rows = [
        (
            j.id,
            j.ae_title,
            j.state,
            j.created_at,
            j.ended_at,
            j.input_count,
            j.result_count,
            _why(j),
        )
        for j in found
    ]
    is_filtered = wanted != job_list.Filter()
    show.table(columns, rows, show.nothing_of("job", is_filtered=is_filtered))


@jobs.command(name="show")
@click.argument("job_id", type=int)
@pass_asked
def show_job(asked: Asked, job_id: int) -> None:
    """Show one job: what it is, its steps, its results, where they go."""
    with _index(asked) as db, db.read() as connection:
        job = index.get(connection, job_id)
        steps = job_list.steps_of(connection, job_id)
        results = catalog.results_of(connection, job_id)
        sent = deliveries.deliveries_of(connection, job_id)
    if asked.as_json:
        show.as_json({"job": job, "steps": steps, "results": results, "deliveries": sent})
        return
    show.facts(_facts(job))
    click.echo()
    show.table(
        ("attempt", "step", "began", "took"),
        [(s.attempt, s.name, s.started_at, _took(s.started_at, s.ended_at)) for s in steps],
        "No attempt has begun.",
    )
    click.echo()
    columns = ("delivery", "to", "what", "state", "message")
    rows = [(d.id, d.destination, d.what, d.state, d.message) for d in sent]
    nothing = "Nothing is to be sent." if job.ended_at else "It has not ended: nothing is sent yet."
    show.table(columns, rows, job.routing_note or nothing)


@jobs.command()
@click.argument("job_id", type=int)
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@pass_asked
def log(asked: Asked, job_id: int, follow: bool) -> None:
    """Print the log that the stream wrote."""
    settings = asked.settings()
    file = Layout(settings.data_root).job(job_id).log
    with _index(asked) as db:
        _job(db, job_id)
        if not follow and not file.exists():
            raise NotFound(f"job {job_id} has no log", remedy=f"brookbox jobs show {job_id}")
        for piece in _pieces(file, db, job_id, follow):
            if not asked.as_json:
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
    if asked.as_json:
        text = file.read_text("utf-8", "replace") if file.exists() else ""
        show.as_json({"job": job_id, "log": text})


@jobs.command()
@click.argument("job_id", type=int)
@click.option("--yes", is_flag=True, help="Do not ask before one that runs is stopped.")
@pass_asked
def cancel(asked: Asked, job_id: int, yes: bool) -> None:
    """Cancel a job that waits or runs."""
    with _index(asked) as db:
        if _job(db, job_id).state == JobState.RUNNING:
            confirm(f"Job {job_id} runs: stop it?", yes=yes)
        state = index.cancel(db, job_id, who(), datetime.now(UTC))
        did = "cancelled" if state == JobState.CANCELLED else "asked to cancel"
        _note(db, "job cancelled", f"{who()} {did} job {job_id}.", job_id)
    bells.ring(Layout(asked.settings().data_root).run, "worker")
    done = "is cancelled" if state == JobState.CANCELLED else "is being stopped"
    _say(asked, job_id, f"Job {job_id} {done}.")


@jobs.command()
@click.argument("job_id", type=int)
@pass_asked
def retry(asked: Asked, job_id: int) -> None:
    """Queue a failed or cancelled job again, with the same input and result UIDs."""
    with _index(asked) as db:
        index.retry(db, job_id, datetime.now(UTC))
        _note(db, "job retried", f"{who()} queued job {job_id} again.", job_id)
    bells.ring(Layout(asked.settings().data_root).run, "dispatcher")
    _say(asked, job_id, f"Job {job_id} is queued again.")


@jobs.command(name="run-again")
@click.argument("job_id", type=int)
@pass_asked
def run_again(asked: Asked, job_id: int) -> None:
    """Make a new job of the same input, whose results get new UIDs."""
    from appliance.dispatcher import again

    with _index(asked) as db:
        new = again.run_again(db, job_id, who(), datetime.now(UTC))
    bells.ring(Layout(asked.settings().data_root).run, "dispatcher")
    _say(asked, new.id, f"Job {new.id} runs job {job_id} again.")


@jobs.command()
@click.argument("job_id", type=int)
@pass_asked
def release(asked: Asked, job_id: int) -> None:
    """Let the results of a held job be sent."""
    with _index(asked) as db:
        index.release(db, job_id)
        _note(db, "job released", f"{who()} let the results of job {job_id} be sent.", job_id)
    bells.ring(Layout(asked.settings().data_root).run, "router")
    _say(asked, job_id, f"The results of job {job_id} may be sent now.")


@contextlib.contextmanager
def _index(asked: Asked) -> Iterator[Database]:
    db = asked.open_index()
    try:
        yield db
    finally:
        db.close()


def _job(db: Database, job_id: int) -> Job:
    with db.read() as connection:
        return index.get(connection, job_id)


def _note(db: Database, kind: str, sentence: str, job_id: int) -> None:
    job = _job(db, job_id)
    with db.write() as connection:
        events.append(
            connection,
            kind,
            sentence,
            datetime.now(UTC),
            who=who(),
            study_uid=job.study_uid,
            job_id=job_id,
        )


def _say(asked: Asked, job_id: int, sentence: str) -> None:
    if asked.as_json:
        with _index(asked) as db:
            show.as_json(_job(db, job_id))
    else:
        click.echo(sentence)


def _why(job: Job) -> str:
    if job.state == JobState.QUEUED:
        return job.wait_reason
    held = "its results wait for a person" if job.is_held else ""
    return " ".join(part for part in (said(job.reason, job.message), held) if part)


def _facts(job: Job) -> Iterator[tuple[str, object]]:
    reason, message = why_and_message(job.reason, job.message)
    yield "job", job.id
    yield "stream", f"{job.ae_title} {job.stream_version}".strip()
    yield "study", job.study_uid
    yield "series", job.series_uid
    yield "state", job.state
    yield "waits because", job.wait_reason if job.state == JobState.QUEUED else ""
    yield "being cancelled by", job.cancelled_by if job.cancel_requested else ""
    yield "reason", reason
    yield "cancelled by", job.cancelled_by if job.state == JobState.CANCELLED else ""
    yield "try", job.remedy
    yield "the stream says", message
    yield "from", f"{job.calling_ae_title} at {job.address}" if job.address else ""
    yield "created", job.created_at
    yield "started", job.started_at
    yield "ended", job.ended_at
    yield "attempt", job.attempt or None
    yield "instances", job.input_count
    yield "results", job.result_count
    yield "run by", f"{job.executor} on {job.worker}" if job.executor else ""
    yield "image", f"{job.image} {job.image_id}".strip()
    yield "exit code", job.exit_code
    yield "peak memory", of_memory(job.peak_memory_bytes) if job.peak_memory_bytes else ""
    release = f"until a person releases its results: brookbox jobs release {job.id}"
    yield "held", release if job.is_held else ""
    yield "possibly incomplete", "yes" if job.incomplete else ""
    yield "superseded by", job.superseded_by
    yield "runs again", job.run_again_of


def _took(began: datetime, ended: datetime | None) -> str:
    return f"{(ended - began).total_seconds():.1f} s" if ended else "(goes on)"


def _pieces(file: Path, db: Database, job_id: int, follow: bool) -> Iterator[bytes]:
    """Give what the log holds; when following, also what comes until the job has ended."""
    at = 0
    while True:
        has_ended = _job(db, job_id).state in ENDED
        if file.exists():
            with file.open("rb") as stream:
                # A log that was cut short in its middle begins again.
                stream.seek(at if at <= file.stat().st_size else 0)
                while piece := stream.read(1 << 16):
                    yield piece
                at = stream.tell()
        if not follow or has_ended:
            return
        time.sleep(_FOLLOW_SECONDS)
