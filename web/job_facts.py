"""The facts of a job in words, and what of it has been removed."""

from __future__ import annotations

from appliance.amounts import of_memory
from appliance.index.jobs import Job
from appliance.index.states import ACTIVE
from web.wording import lasted

_RUN_AS = {"container": "container", "process": "plain process"}
_PRIORITIES = {1: "high", 0: "normal", -1: "low"}


def facts_of(job: Job) -> list[tuple[str, str]]:
    """List what is known of a job, name and value; what is not known is left out."""
    lasting = (job.ended_at - job.started_at) if job.ended_at and job.started_at else None
    found = [
        ("Stream", f"{job.ae_title} {job.stream_version}".strip()),
        ("From", " at ".join(part for part in (job.calling_ae_title, job.address) if part)),
        ("Images", str(job.input_count)),
        ("Priority", _PRIORITIES.get(job.priority, str(job.priority))),
        ("Attempts", _attempts(job)),
        ("Cancelled by", job.cancelled_by),
        ("Run as", _RUN_AS.get(job.executor, job.executor)),
        ("Image", job.image),
        ("Image id", job.image_id),
        ("Worker", job.worker),
        ("GPUs", job.gpu_devices),
        ("Run time", lasted(lasting)),
        ("Exit code", "" if job.exit_code is None else str(job.exit_code)),
        ("Peak memory", of_memory(job.peak_memory_bytes) if job.peak_memory_bytes else ""),
        ("Study UID", job.study_uid),
        ("Series UID", job.series_uid),
        ("Routing", job.routing_note),
    ]
    return [(name, value) for name, value in found if value]


def removed_of(job: Job, *, has_folder: bool, results: int, inputs: int) -> list[str]:
    """Say what of an ended job has been removed; nothing while it waits or runs.

    The record itself stays, so an old job has a page that says what became of it.
    """
    if job.state in ACTIVE:
        return []
    found = []
    if job.attempt and not has_folder:
        found.append("Its log and its other files have been removed: their time was over.")
    if results < job.result_count:
        left = f"; {results} of {job.result_count} are left" if results else ""
        found.append(f"Its results have been removed: their time was over{left}.")
    if inputs < job.input_count:
        left = f"; {inputs} of {job.input_count} are left" if inputs else ""
        found.append(
            f"The images that it worked on have been removed{left}. "
            "To run it again, send the study again."
        )
    return found


def _attempts(job: Job) -> str:
    if not job.attempt:
        return ""
    return str(job.attempt) if job.tries == job.attempt else f"{job.attempt} ({job.tries} count)"
