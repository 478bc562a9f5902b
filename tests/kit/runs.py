"""Run a stream without a node: a stream folder, a job folder, an executor, a watch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil

from appliance import ids
from appliance.disk.layout import JobFolder, Layout
from appliance.index.jobs import Job
from appliance.settings import Settings
from appliance.streams.catalog import Stream, read_stream
from appliance.streams.limits import limits_of
from appliance.worker.executor import Ended, Executor, Run

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Bystander:
    """A watch that ends nothing until it is told to."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.stopping = threading.Event()

    def is_cancelled(self) -> bool:
        return self.cancelled.is_set()

    def is_stopping(self) -> bool:
        return self.stopping.is_set()


@dataclass(slots=True)
class Workshop:
    """A data_root and a streams folder for runs without a node."""

    settings: Settings

    @property
    def layout(self) -> Layout:
        return Layout(self.settings.data_root)

    def stream(
        self, name: str, info: dict[str, Any], files: dict[str, str] | None = None
    ) -> Stream:
        """Write a stream folder and read it back."""
        folder = self.settings.streams_folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "info.json").write_text(json.dumps({"AETitle": name.upper(), **info}))
        for path, text in (files or {}).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        stream = read_stream(folder)
        assert stream.is_good, [str(problem) for problem in stream.problems]
        return stream

    def job_folder(self, job_id: int, copy: bool) -> JobFolder:
        """Make the folder of a job as the worker does, over two stored files."""
        self.layout.make()
        folder = self.layout.job(job_id)
        folder.input.mkdir(parents=True)
        folder.path.chmod(0o700)
        folder.output.mkdir(mode=0o700)
        for number in (1, 2):
            stored = self.layout.studies / f"{job_id}-{number}.dcm"
            stored.write_bytes(b"stored %d" % number)
            stored.chmod(0o440)
            target = folder.input / f"{number:05}.dcm"
            if copy:
                target.write_bytes(stored.read_bytes())
            else:
                os.link(stored, target)
        folder.info.write_text(json.dumps({"job": job_id}))
        return folder

    def run_of(self, executor: Executor, stream: Stream, job_id: int = 1, attempt: int = 1) -> Run:
        """Prepare a run."""
        folder = self.layout.job(job_id)
        if attempt == 1:
            folder = self.job_folder(job_id, executor.wants_copy(stream))
        return Run(
            job=job(job_id, stream.ae_title, attempt),
            stream=stream,
            folder=folder,
            limits=limits_of(stream.good_info, self.settings),
            devices=(),
            worker=str(ids.this_process()),
        )


@dataclass(slots=True)
class InBackground:
    """A run that goes on while the test does something else."""

    run: Run
    watch: Bystander
    thread: threading.Thread
    ended: list[Ended]

    @property
    def log(self) -> str:
        try:
            return self.run.folder.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def end(self, seconds: float = 60) -> Ended:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"still running after {seconds} s: {self.log}"
        return self.ended[0]


def begin(executor: Executor, run: Run) -> InBackground:
    """Start a run in a thread."""
    watch, ended = Bystander(), list[Ended]()
    work: Callable[[], None] = lambda: ended.append(executor.run(run, watch))  # noqa: E731
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return InBackground(run, watch, thread, ended)


def job(job_id: int, ae_title: str, attempt: int = 1) -> Job:
    """A running job's row, made by hand."""
    empty: dict[str, Any] = {}
    for field in dataclasses.fields(Job):
        kind = str(field.type)
        values = {"int": 0, "str": "", "bool": False, "datetime": NOW}
        empty[field.name] = values.get(kind)
    empty |= {"id": job_id, "ae_title": ae_title, "attempt": attempt, "state": "running"}
    return Job(**empty)


def alive_with_environment(word: str) -> list[psutil.Process]:
    """List the processes of this machine that have a word in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            has_word = any(word in value for value in process.environ().values())
            if has_word and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
