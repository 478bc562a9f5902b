"""Keep the lease of a running attempt, from a thread of its own.

It also sees when a person cancels the job, when another attempt has become the
current one, and how far the run says it is.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from types import TracebackType

from appliance import logs
from appliance.errors import IndexUnavailable, LeaseLost, NotFound
from appliance.index import attempts, jobs
from appliance.index.jobs import Job
from appliance.worker.progress import Progress, read_progress
from appliance.worker.site import Site

_LOOK_SECONDS = 1.0
_ASK_EVERY = 2  # looks


class Lease:
    """The lease of one attempt, and an executor's `Watch` over it; used as a context."""

    def __init__(self, site: Site, job: Job) -> None:
        self._site = site
        self._job = job
        self._over = threading.Event()
        self._cancelled = threading.Event()
        self._lost = threading.Event()
        self._progress: Progress | None = None
        self._renewed_at = time.monotonic()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{job.id}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        with self._site.poke:
            self._site.poke.notify_all()
        self._thread.join()

    @property
    def is_lost(self) -> bool:
        """Say whether another attempt is the current one."""
        return self._lost.is_set()

    def is_cancelled(self) -> bool:
        """Say whether a person cancelled the job, or its lease was lost."""
        return self._cancelled.is_set() or self._lost.is_set()

    def is_stopping(self) -> bool:
        """Say whether the worker shuts down."""
        return self._site.stopping.is_set()

    def note_progress(self) -> None:
        """Note how far the run says it is, if that has changed."""
        found = read_progress(self._site.layout.job(self._job.id))
        if found is None or found == self._progress:
            return
        self._progress = found
        attempts.note_run(
            self._site.db,
            self._job,
            progress_done=found.done,
            progress_of=found.of,
            progress_step=found.step,
        )

    def _keep(self) -> None:
        looks = 0
        while not self._over.is_set() and not self._lost.is_set():
            with self._site.poke:
                was_poked = self._site.poke.wait(_LOOK_SECONDS)
            if self._over.is_set():
                return
            looks += 1
            try:
                self._look(asks=was_poked or looks % _ASK_EVERY == 0)
            except (LeaseLost, NotFound):
                self._lost.set()
            except IndexUnavailable as error:
                self._wait_for_index(error)

    def _look(self, *, asks: bool) -> None:
        lease = self._site.lease
        if time.monotonic() - self._renewed_at >= lease.total_seconds() / 6:
            if attempts.renew(self._site.db, self._job, lease, datetime.now(UTC)):
                self._cancelled.set()
            self._renewed_at = time.monotonic()
        elif asks and not self._cancelled.is_set():
            with self._site.db.read() as connection:
                now = jobs.get(connection, self._job.id)
            if now.attempt != self._job.attempt:
                self._lost.set()
            elif now.cancel_requested:
                self._cancelled.set()
        self.note_progress()

    def _wait_for_index(self, error: IndexUnavailable) -> None:
        """Go on while the lease lasts; past it another worker may have the job."""
        silent = time.monotonic() - self._renewed_at
        if silent > self._site.lease.total_seconds():
            logs.get().error("lease ran out, the index is away", job=self._job.id, said=str(error))
            self._lost.set()
