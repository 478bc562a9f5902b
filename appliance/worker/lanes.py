"""A lane: one seat of a stream in this worker, which runs that stream's jobs one after another.

It is woken by Gearman and drains: it claims the stream's next job again and again
until there is none.  A ring says when, the index says which.
"""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime

from appliance import logs
from appliance.errors import IndexUnavailable, LeaseLost
from appliance.index import attempts
from appliance.index.jobs import Job
from appliance.queue.listen import Ears, listen
from appliance.streams.catalog import Stream
from appliance.worker.executor import Executor, Waits, executor_for
from appliance.worker.gpus import gpu_devices
from appliance.worker.outcome import PutBack
from appliance.worker.run_job import put_back, run_job
from appliance.worker.site import Site

_numbers = itertools.count(1)


class Lane(threading.Thread):
    """One lane; it ends after its current job when it is closed or the worker stops."""

    def __init__(self, site: Site, ae_title: str) -> None:
        self.number = next(_numbers)
        super().__init__(name=f"lane {self.number} of {ae_title}", daemon=True)
        self._site = site
        self._closing = threading.Event()
        self.ae_title = ae_title
        self.job_id: int | None = None

    @property
    def is_closing(self) -> bool:
        """Say whether it takes no more jobs."""
        return self._closing.is_set()

    def close(self) -> None:
        """Take no more jobs; the one that runs goes on to its end."""
        self._closing.set()

    def run(self) -> None:
        """Listen and work until closed."""
        queue = self._site.settings.queue
        pid = self._site.worker.split("/")[1]
        ears = Ears(self._on_ring, self._is_over, queue.ring_again_seconds, self._on_stray)
        listen(queue.servers, self.ae_title, f"brookbox-worker-{pid}-{self.number}", ears)

    def drain(self) -> None:
        """Run the stream's jobs until there is none that may run."""
        while not self._is_over():
            found = self._who_runs()
            if found is None:
                return
            stream, executor = found
            job = self._claim(stream)
            if job is None:
                return
            self.job_id = job.id
            try:
                self._run(job, stream, executor)
            finally:
                self.job_id = None

    def _is_over(self) -> bool:
        return self._closing.is_set() or self._site.stopping.is_set()

    def _on_ring(self, job_id: int | None) -> None:
        try:
            if job_id is not None and self._site.strays.is_stray(job_id, self.ae_title):
                self._site.strays.note(self.ae_title, "a job that it does not have")
            self.drain()
        except IndexUnavailable as error:
            logs.get().warning("the index is away, the lane waits", said=str(error))
        # The boundary of a lane: a mistake of ours must not end it.
        except Exception:  # noqa: BLE001
            logs.get().exception("a lane stumbled", stream=self.ae_title)

    def _on_stray(self) -> None:
        self._site.strays.note(self.ae_title, "what is no job's number")

    def _who_runs(self) -> tuple[Stream, Executor] | None:
        stream = self._site.streams.find(self.ae_title)
        if stream is None or not stream.is_good or not stream.is_enabled:
            return None
        executor = executor_for(self._site.settings, stream, self._site.executors)
        return None if isinstance(executor, Waits) else (stream, executor)

    def _claim(self, stream: Stream) -> Job | None:
        info = stream.good_info
        return attempts.claim_next(
            self._site.db,
            self.ae_title,
            lanes=info.lanes,
            worker=self._site.worker,
            lease=self._site.lease,
            now=datetime.now(UTC),
            gpus=info.gpus,
            devices=gpu_devices() if info.gpus else (),
        )

    def _run(self, job: Job, stream: Stream, executor: Executor) -> None:
        try:
            run_job(self._site, job, stream, executor)
        except Exception as error:  # noqa: BLE001 (the same boundary, where the job is known)
            logs.get().exception("an attempt stumbled", job=job.id, attempt=job.attempt)
            reason = f"A mistake in Brookbox ended the attempt ({type(error).__name__})."
            try:
                put_back(self._site, job, PutBack(reason, counts=True, after_pause=True))
            except (LeaseLost, IndexUnavailable):  # its lease runs out instead
                return
