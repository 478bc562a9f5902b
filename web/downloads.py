"""What a job made, to take away: all of it as one zip, or one file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from flask import Blueprint, Response, abort
from zipstream import ZIP_STORED, ZipStream

from appliance.errors import JobError, NotFound
from appliance.index import catalog
from appliance.index import jobs as index_jobs
from appliance.index.catalog import Instance
from appliance.index.jobs import Job
from appliance.index.states import ACTIVE
from web import job_files
from web.job import other_files
from web.job_files import OutputFile
from web.node import Node, node
from web.ranges import Download, send, skip

downloads = Blueprint("downloads", __name__)

_CHUNK = 256 * 1024
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@downloads.get("/jobs/<int:job_id>/results.zip")
def results_zip(job_id: int) -> Response:
    """Send results and other files as one zip; nothing is compressed a second time."""
    here = node()
    job, results = _ended_job(here, job_id)
    files = other_files(here, job_id, has_results=bool(results))
    if not results and not files:
        raise NotFound(f"job {job_id} has nothing to download", remedy="look at its log")
    members = _members(here, job, results, files)
    length = len(_zip(members))
    return send(
        Download(
            name=f"{_plain(job.ae_title)}_job-{job_id}{_mark(job)}.zip",
            mime_type="application/zip",
            length=length,
            version=_version(job, members),
            chunks=lambda start: skip(iter(_zip(members)), start),
        )
    )


@downloads.get("/jobs/<int:job_id>/results/<uid>")
def result(job_id: int, uid: str) -> Response:
    """Send one result as a DICOM file."""
    here = node()
    with here.db.read() as connection:
        found = catalog.find_instance(connection, uid)
    if found is None or found.made_by_job != job_id:
        raise NotFound(f"job {job_id} has no such result", remedy="reload the job's page")
    path = here.layout.root / found.path
    output = OutputFile(path.name, "", found.size_bytes, 0)
    return send_file(path.parent, output, f"{uid}.dcm", "application/dicom")


@downloads.get("/jobs/<int:job_id>/output/<key>")
def output_file(job_id: int, key: str) -> Response:
    """Send one file of OUTPUT; always to be saved, never to be shown."""
    here = node()
    files = other_files(here, job_id, has_results=False)
    found = next((file for file in files if file.key == key), None)
    if found is None:
        abort(404)
    name = found.shown_name.rsplit("/", 1)[-1]
    folder = here.layout.job(job_id).output
    return send_file(folder, found, _printable(name), "application/octet-stream")


def send_file(folder: Path, file: OutputFile, name: str, mime_type: str) -> Response:
    """Send one file, to be saved; `file` is opened below `folder` without following links."""
    opened = job_files.open_file(folder, file)
    found = os.fstat(opened.fileno())

    def chunks(start: int) -> Iterator[bytes]:
        opened.seek(start)
        return iter(lambda: opened.read(_CHUNK), b"")

    version = f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
    return send(Download(name, mime_type, found.st_size, version, chunks, opened.close))


def _ended_job(here: Node, job_id: int) -> tuple[Job, list[Instance]]:
    """Give a job that has ended, and its results: what a run still writes is not zipped."""
    with here.db.read() as connection:
        job = index_jobs.get(connection, job_id)
        results = catalog.results_of(connection, job_id)
    if job.state in ACTIVE:
        raise JobError(f"job {job_id} has not ended yet", remedy="wait for its end")
    return job, results


def _members(
    here: Node, job: Job, results: list[Instance], files: list[OutputFile]
) -> list[tuple[Path, str]]:
    """List what goes into the zip, and under which name.

    By path: the job has ended, so nothing writes in its folder any more, and both
    lists hold regular files only.
    """
    top = f"{_plain(job.ae_title)}_job-{job.id}"
    numbers: dict[str, int] = {}
    members = []
    for one in results:
        series = numbers.setdefault(one.series_uid, len(numbers) + 1)
        name = f"{top}/results/series-{series}/{one.sop_instance_uid}.dcm"
        members.append((here.layout.root / one.path, name))
    output = here.layout.job(job.id).output
    members += [(output / file.name, f"{top}/files/{file.shown_name}") for file in files]
    return [(path, name) for path, name in members if path.is_file() and not path.is_symlink()]


def _zip(members: list[tuple[Path, str]]) -> ZipStream:
    made = ZipStream(compress_type=ZIP_STORED, sized=True)
    for path, name in members:
        made.add_path(path, name, recurse=False)
    return made


def _version(job: Job, members: list[tuple[Path, str]]) -> str:
    seen = hashlib.sha256(f"{job.id} {job.attempt}".encode())
    for path, name in members:
        found = path.lstat()
        seen.update(f"\n{name}\0{found.st_size}\0{found.st_mtime_ns}".encode("utf-8", "replace"))
    return seen.hexdigest()[:32]


def _mark(job: Job) -> str:
    return "_incomplete" if job.incomplete or job.state == "partial" else ""


def _plain(text: str) -> str:
    return _NOT_IN_A_NAME.sub("-", text).strip("-.") or "stream"


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "_" for c in name) or "file"
