"""`brookbox streams run`: a stream over a folder of files, exactly as the node runs it.

It makes a node of its own in a temporary folder: intake, index, job folder, executor
and harvest are those of the worker.  Nothing of the real node is touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from appliance import ids, logs
from appliance.cli import show
from appliance.dicom import part10
from appliance.disk.layout import JobFolder, Layout
from appliance.errors import BrookboxError, InstanceRefused, JobError, StreamError
from appliance.index import attempts, catalog, jobs, migrate
from appliance.index.database import Database, connect
from appliance.index.jobs import Job, NewJob
from appliance.intake.take import Intake, Kept, Sender
from appliance.settings import Index, Settings
from appliance.streams.catalog import Stream, read_stream
from appliance.worker.executor import Waits, executor_for
from appliance.worker.executors import all_executors
from appliance.worker.gpus import gpu_devices
from appliance.worker.run_job import run_job
from appliance.worker.site import Site

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Ran:
    """How the run ended, and the files that are in the output folder now."""

    state: str
    reason: str
    remedy: str
    message: str
    executor: str
    image: str
    exit_code: int | None
    peak_memory_bytes: int | None
    seconds: float
    results: tuple[str, ...]
    others: tuple[str, ...]


def run_stream(settings: Settings, folder: Path, source: Path, output: Path, quiet: bool) -> Ran:
    """Run a stream's folder over the DICOM files of `source`; results go to `output`.

    The log goes to standard error while it is written, unless `quiet`.
    """
    stream = _good(folder, settings.node.ae_title)
    logs.set_up("streams run", "error")
    with tempfile.TemporaryDirectory(prefix="brookbox-run-") as name:
        node = dataclasses.replace(
            settings,
            node=dataclasses.replace(settings.node, data_root=name),
            index=Index(),
        )
        layout = Layout(Path(name))
        layout.make()
        db = connect(node)
        migrate.migrate(db)
        try:
            job = _queue(node, db, layout, stream, source)
            ended = _run(node, db, layout, stream, job, quiet)
            return _bring(db, layout, ended, output)
        finally:
            db.close()


def _good(folder: Path, own_ae_title: str) -> Stream:
    stream = read_stream(folder.absolute(), own_ae_title)
    stops = [str(problem) for problem in stream.problems if problem.stops]
    if stops or not stream.is_good:
        raise StreamError("\n".join(stops), remedy=f"brookbox streams check {folder}")
    return stream


def _queue(node: Settings, db: Database, layout: Layout, stream: Stream, source: Path) -> Job:
    """Take the files in as received data, and queue one job over them."""
    now = datetime.now(UTC)
    intake = Intake(db, layout, node.node.ae_title)
    kept = [one for path in _files(source) if (one := _take(intake, path, stream, now))]
    intake.close()
    studies = {one.study_uid for one in kept}
    if len(studies) != 1:
        raise JobError(
            f"{source} holds instances of {len(studies)} studies; a job works on one",
            remedy="name a folder with the DICOM files of one study",
        )
    new = NewJob(
        ae_title=stream.ae_title,
        stream_name=stream.good_info.name,
        stream_version=stream.good_info.version,
        study_uid=studies.pop(),
        series_uid="",
        priority=0,
        calling_ae_title=node.node.ae_title,
        address="127.0.0.1",
        input_digest="",
        inputs=tuple(sorted({one.sop_instance_uid for one in kept})),
        result_seed=ids.new_id(),
        incomplete=False,
        first_instance_at=now,
        last_instance_at=now,
    )
    with db.write() as connection:
        return jobs.get(connection, jobs.create(connection, new, now))


def _take(intake: Intake, path: Path, stream: Stream, now: datetime) -> Kept | None:
    """Take one file in; None when it is no DICOM, which is said."""
    sender = Sender(stream.ae_title, "STREAMS-RUN", "127.0.0.1", "run")
    try:
        meta, header, _ = part10.read_file(path)
        kept = intake.keep(
            path,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=meta.transfer_syntax_uid,
            sender=sender,
            level=None,
            now=now,
        )
    except InstanceRefused as error:
        show.note(f"{path} is left out: {error}")
        return None
    if kept.is_held:
        show.note(f"{path} is left out: {kept.note}")
        return None
    return kept


def _run(
    node: Settings, db: Database, layout: Layout, stream: Stream, job: Job, quiet: bool
) -> Job:
    executors = all_executors(node)
    executor = executor_for(node, stream, executors)
    if isinstance(executor, Waits):
        raise JobError(f"it cannot run here: {executor.sentence}", remedy=executor.remedy)
    site = Site(node, db, layout, str(ids.this_process()), executors)
    claimed = attempts.claim_next(
        db,
        stream.ae_title,
        lanes=1,
        worker=site.worker,
        lease=timedelta(days=1),
        now=datetime.now(UTC),
        gpus=stream.good_info.gpus,
        devices=gpu_devices(),
    )
    if claimed is None:
        raise JobError(
            f"it needs {stream.good_info.gpus} GPUs and this machine has {len(gpu_devices())}",
            remedy="run it on a machine with a GPU, or lower gpus in info.json",
        )
    with _interruptible(site), _shown(layout.job(job.id), quiet):
        run_job(site, claimed, stream, executor)
    with db.read() as connection:
        return jobs.get(connection, job.id)


@contextlib.contextmanager
def _interruptible(site: Site) -> Iterator[None]:
    """Let Ctrl-C stop the run, so that nothing of it is left."""

    def stop(number: int, frame: FrameType | None) -> None:
        site.stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shown(folder: JobFolder, quiet: bool) -> Iterator[None]:
    """Copy the log to standard error as it grows."""
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(folder.log, over), daemon=True)
    if not quiet:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if not quiet:
            thread.join()


def _follow(log: Path, over: threading.Event) -> None:
    at = 0
    while True:
        is_last = over.wait(_LOOK_SECONDS)
        with contextlib.suppress(FileNotFoundError), log.open("rb") as stream:
            stream.seek(at)
            sys.stderr.buffer.write(stream.read())
            sys.stderr.buffer.flush()
            at = stream.tell()
        if is_last:
            return


def _bring(db: Database, layout: Layout, job: Job, output: Path) -> Ran:
    """Copy the results, as they were registered, and the other files to the output folder."""
    with db.read() as connection:
        made = catalog.results_of(connection, job.id)
    output.mkdir(parents=True, exist_ok=True)
    results = []
    for number, instance in enumerate(made, 1):
        target = output / f"result-{number:04}.dcm"
        shutil.copyfile(layout.root / instance.path, target)
        results.append(target.name)
    others = [
        _copied(path, layout.job(job.id), output)
        for path in sorted(layout.job(job.id).output.rglob("*"))
        if path.is_file() and not path.is_symlink() and not _is_dicom(path)
    ]
    assert job.started_at is not None, "a job that ran has no beginning"
    took = (job.ended_at or datetime.now(UTC)) - job.started_at
    return Ran(
        state=job.state,
        reason=job.reason or job.wait_reason,
        remedy=job.remedy,
        message=job.message,
        executor=job.executor,
        image=job.image,
        exit_code=job.exit_code,
        peak_memory_bytes=job.peak_memory_bytes,
        seconds=round(took.total_seconds(), 2),
        results=tuple(results),
        others=tuple(others),
    )


def _copied(path: Path, folder: JobFolder, output: Path) -> str:
    name = path.relative_to(folder.output)
    (output / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, output / name)
    return str(name)


def _is_dicom(path: Path) -> bool:
    try:
        part10.read_file(path)
    except (BrookboxError, OSError):
        return False
    return True


def _files(source: Path) -> list[Path]:
    found = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
    return sorted(found)
