"""The worker's side of the bell: wait for the rings of one stream.

The Gearman job is held until the callback has returned, so gearmand's `status`
shows it as running.  The payload of a ring is an untrusted integer: anybody who
can connect to gearmand may have sent it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gearman.worker import GearmanWorker

from appliance import logs
from appliance.queue.connection import TROUBLE, Connection
from appliance.queue.functions import function_of

_LOOK_SECONDS = 1.0  # how long it may take to notice that it should stop
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Ears:
    """What a listener wants to be told; the callbacks must not raise.

    `on_ring` gets the job id of a ring; None means that it should look by itself:
    the connection is new (rings may have been lost), or nothing rang for
    `look_again_seconds`.  `on_stray` is told of a ring that is no job id.  `should_stop`
    is asked at least each second.
    """

    on_ring: Callable[[int | None], None]
    should_stop: Callable[[], bool]
    look_again_seconds: float = 30.0
    on_stray: Callable[[], None] = lambda: None


def listen(servers: Sequence[str], ae_title: str, name: str, ears: Ears) -> None:
    """Listen for one stream until told to stop; `name` is shown by gearmand's `workers`.

    While gearmand is away it is tried again and again, with growing pauses of up
    to 5 s, and `on_ring(None)` goes on being called each `look_again_seconds`.
    """
    pause, is_down, looked_at = _FIRST_PAUSE_SECONDS, False, -float("inf")
    while not ears.should_stop():
        worker = _Worker(servers, ae_title, name, ears, looked_at)
        try:
            worker.work(poll_timeout=_LOOK_SECONDS)
        except TROUBLE as error:
            if worker.was_connected:
                pause, is_down = _FIRST_PAUSE_SECONDS, False
            if not is_down:
                is_down = True
                logs.get().warning("gearmand is away", stream=ae_title, error=repr(error)[:200])
        finally:
            worker.shutdown()
        looked_at = _rest(ears, pause, worker.looked_at)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


class _Worker(GearmanWorker):  # type: ignore[misc]
    connection_class = Connection

    def __init__(
        self, servers: Sequence[str], ae_title: str, name: str, ears: Ears, looked_at: float
    ) -> None:
        super().__init__(list(servers))
        self._ears = ears
        self.was_connected = False
        self.looked_at = looked_at
        self.set_client_id(name)
        self.register_task(function_of(ae_title), self._on_job)

    def after_poll(self, any_activity: bool) -> bool:
        """Go on unless told to stop; look at a new connection, and now and then."""
        if self._ears.should_stop():
            return False
        is_new = not self.was_connected and any(map(_is_registered, self.connection_list))
        self.was_connected = self.was_connected or is_new
        is_due = self.was_connected and _is_due(self._ears, self.looked_at)
        if not self.has_job_lock() and (is_new or is_due):
            self._look(None)
        return not self._ears.should_stop()

    def _on_job(self, worker: Any, job: Any) -> bytes:
        job_id = _job_id(job.data)
        if job_id is None:
            self._ears.on_stray()
        else:
            self._look(job_id)
        return b""

    def _look(self, job_id: int | None) -> None:
        self._ears.on_ring(job_id)
        self.looked_at = time.monotonic()


def _rest(ears: Ears, seconds: float, looked_at: float) -> float:
    """Wait for gearmand to come back; when it was looked last."""
    until = time.monotonic() + seconds
    while not ears.should_stop() and (left := until - time.monotonic()) > 0:
        if _is_due(ears, looked_at):
            ears.on_ring(None)
            looked_at = time.monotonic()
        time.sleep(min(left, _LOOK_SECONDS))
    return looked_at


def _is_registered(connection: Connection) -> bool:
    """Say whether gearmand knows this lane: all that was to be sent has been."""
    return bool(connection.connected and not connection.writable())


def _is_due(ears: Ears, looked_at: float) -> bool:
    return time.monotonic() - looked_at >= ears.look_again_seconds


def _job_id(data: bytes) -> int | None:
    if not data.isascii() or not data.isdigit() or len(data) > 19:
        return None
    number = int(data)
    return number if 0 < number <= _LARGEST_ID else None
