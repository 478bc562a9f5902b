"""Ringing: a background Gearman job that says which job of a stream is queued."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gearman.client import GearmanClient
from gearman.constants import PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_NONE

from appliance.queue.connection import TROUBLE, Connection, unavailable
from appliance.queue.functions import function_of

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Ring:
    """One job to be rung; `priority` is 1 high, 0 normal, -1 low."""

    job_id: int
    ae_title: str
    priority: int


class Rings:
    """A connection to gearmand that rings.  It connects when it must, and again when it broke."""

    def __init__(self, servers: Sequence[str], patience_seconds: float = 5.0) -> None:
        self._servers = tuple(servers)
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._client: Any = None

    def ring(self, job_id: int, ae_title: str, priority: int) -> None:
        """Ring for one job; QueueUnavailable when gearmand does not take it in 5 s."""
        self.ring_all([Ring(job_id, ae_title, priority)])

    def ring_all(self, rings: Sequence[Ring]) -> None:
        """Ring for many jobs, in this order; QueueUnavailable when some were not taken.

        gearmand coalesces equal unique keys: a job that was rung already and was
        not picked up stays one ring.
        """
        with self._lock:
            for start in range(0, len(rings), _BATCH):
                self._submit([_gearman_job(ring) for ring in rings[start : start + _BATCH]])

    def close(self) -> None:
        """Close the connection; the next ring opens it again."""
        if self._client is not None:
            with contextlib.suppress(*TROUBLE):
                self._client.shutdown()
            self._client = None

    def _submit(self, jobs: list[dict[str, Any]]) -> None:
        # gearmand may have been started again since the last ring: the old connection
        # fails on its first use only, so a failure counts once the connection is a new one.
        was_connected = self._client is not None
        try:
            self._submit_once(jobs)
        except TROUBLE as error:
            self.close()
            if not was_connected:
                raise unavailable(self._servers, error) from error
        else:
            return
        try:
            self._submit_once(jobs)
        except TROUBLE as error:
            self.close()
            raise unavailable(self._servers, error) from error

    def _submit_once(self, jobs: list[dict[str, Any]]) -> None:
        if self._client is None:
            self._client = _Client(list(self._servers))
        requests = self._client.submit_multiple_jobs(
            jobs,
            background=True,
            wait_until_complete=False,
            poll_timeout=self._patience_seconds,
        )
        if any(request.timed_out for request in requests):
            raise TimeoutError(f"no answer in {self._patience_seconds:g} s")


class _Client(GearmanClient):  # type: ignore[misc]
    connection_class = Connection


def _gearman_job(ring: Ring) -> dict[str, Any]:
    number = str(ring.job_id).encode("ascii")
    priorities = {1: PRIORITY_HIGH, -1: PRIORITY_LOW}
    return {
        "task": function_of(ring.ae_title),
        "unique": number,
        "data": number,
        "priority": priorities.get(ring.priority, PRIORITY_NONE),
    }
