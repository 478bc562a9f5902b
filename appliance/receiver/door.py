"""The threads that accept the connections of one listening socket, and serve them.

Each waits in accept(2) itself: handing a connection to another thread would cost as much as
storing a small image.  The kernel wakes one of those that wait, over all processes.  A few
always wait; whoever leaves nobody behind starts another first.

The kernel wakes them in the order in which they began to wait.  Who has waited in vain for a
turn begins anew when it is its time, and these times alternate over the processes: so do the
connections that come at once.  Four associations on one process take twice as long as two on
each of two.
"""

from __future__ import annotations

import errno
import math
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from appliance import logs
from appliance.receiver.pulse import Watch

# Whoever waits looks up so often, for the end and for the watch.
TURN_SECONDS = 0.5
# Enough that associations which follow one another closely start no thread and end none.
_IDLE = 4
_STEP_SECONDS = TURN_SECONDS / _IDLE
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.1


def prepare(listening: socket.socket) -> None:
    """Have accept(2) return now and then; what comes is answered without Nagle's delay."""
    listening.settimeout(None)
    whole = int(TURN_SECONDS)
    patience = struct.pack("ll", whole, int((TURN_SECONDS - whole) * 1e6))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    # Connections inherit these from the socket that they come from.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class Steps:
    """When the threads of one process begin to wait again, a turn after the last time.

    Each takes a step of its own, and the steps of all processes alternate.
    """

    def __init__(self, place: float) -> None:
        """`place` is that of the process among all, from 0 to less than 1."""
        self._shift = place * _STEP_SECONDS
        self._last = 0

    def pause(self, now: float) -> float:
        """Take the next step; the seconds until it, less than 0 when it was a moment ago."""
        nearest = math.ceil((now - self._shift) / _STEP_SECONDS - 0.5)
        self._last = max(self._last + 1, nearest)
        return self._shift + self._last * _STEP_SECONDS - now


class Door:
    """One listening socket in one process; `serve` owns the connection that it is given."""

    def __init__(
        self,
        listening: socket.socket,
        serve: Callable[[socket.socket, Any], None],
        give_way: Callable[[], bool],
        watch: Watch,
        place: float = 0.0,
    ) -> None:
        """`place` is as that of `Steps`."""
        self._listening = listening
        self._serve = serve
        self._give_way = give_way
        self._watch = watch
        self._lock = threading.Lock()
        self._idle = 0
        self._steps = Steps(place)
        self._is_closed = False

    def open(self) -> None:
        """Begin to accept."""
        for _ in range(_IDLE):
            self._start()

    def close(self) -> None:
        """Accept no more; whoever waits sees it within a turn."""
        self._is_closed = True

    def _start(self) -> None:
        """Start a thread that waits; RuntimeError where none can be started."""
        with self._lock:
            self._idle += 1
        try:
            threading.Thread(target=self._run, daemon=True).start()
        except (RuntimeError, MemoryError):
            with self._lock:
                self._idle -= 1
            raise

    def _run(self) -> None:
        while not self._is_closed:
            taken = self._accept()
            if taken is None:
                continue
            connection, address = taken
            try:
                self._leave_another()
            except (RuntimeError, MemoryError) as error:
                # It goes on waiting itself: somebody must.
                logs.get().error(
                    "connection not served", address=address[0], why=str(error) or "no memory"
                )
                connection.close()
                continue
            self._serve_one(connection, address)
            with self._lock:
                if self._idle >= _IDLE:
                    return
                self._idle += 1
        with self._lock:
            self._idle -= 1

    def _leave_another(self) -> None:
        """Stop waiting; start another if nobody else waits."""
        with self._lock:
            self._idle -= 1
            is_last = self._idle <= 0
        if not is_last:
            return
        try:
            self._start()
        except (RuntimeError, MemoryError):
            with self._lock:
                self._idle += 1
            raise

    def _accept(self) -> tuple[socket.socket, Any] | None:
        """Wait for a connection for a turn; None when there was none."""
        self._watch.note_turn()
        try:
            return self._listening.accept()
        except BlockingIOError:
            self._keep_step()
            return None
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EBADF):
                self._is_closed = True  # the parent shut the port
            elif error.errno in _EXHAUSTED and not self._give_way():
                # It is still in the queue: without a pause it would be tried for ever at once.
                time.sleep(_PAUSE_SECONDS)
            return None

    def _keep_step(self) -> None:
        """Pause until the next step of this process, while others of it wait."""
        with self._lock:
            pause = self._steps.pause(time.monotonic())
            is_alone = self._idle < 2
        if pause > 0 and not is_alone and not self._is_closed:
            time.sleep(pause)

    def _serve_one(self, connection: socket.socket, address: Any) -> None:
        """Serve it; an error that nobody foresaw ends this thread, and is told by its hook."""
        try:
            self._serve(connection, address)
        except (MemoryError, RuntimeError, OSError) as error:
            logs.get().error(
                "connection not served",
                address=address[0],
                why=str(error) or type(error).__name__,
            )
            connection.close()
