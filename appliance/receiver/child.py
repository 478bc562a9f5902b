"""One receiving process: pynetdicom in threads, and a main loop that keeps its rows fresh."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from datetime import UTC, datetime

from appliance import lifecycle, logs, settings_file
from appliance.errors import BrookboxError, IndexUnavailable, explain
from appliance.index.database import open_index
from appliance.receiver import listener
from appliance.receiver.acceptor import Acceptor
from appliance.receiver.listener import SharedServer
from appliance.receiver.pulse import Pulse, Watch
from appliance.settings import Settings

_LOOK_SECONDS = 0.5
_BEAT_SECONDS = 5.0
_FINISH_SECONDS = 30.0
_SILENT_SECONDS = 5.0
_ABORT_SECONDS = 3.0


def run(
    settings: Settings,
    listening: socket.socket,
    life: lifecycle.Lifecycle,
    number: int,
    parent: int,
    pulse: Pulse,
) -> None:
    """Receive until told to stop, or until the parent dies; then end this process."""
    lifecycle.die_with_parent(parent=parent)
    try:
        code = _receive(settings, listening, life, number, Watch(pulse))
    except BrookboxError as error:
        print(explain(error), file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # pynetdicom's threads of connections that never spoke must not keep us from ending.
    os._exit(code)


def _receive(
    settings: Settings,
    listening: socket.socket,
    life: lifecycle.Lifecycle,
    number: int,
    watch: Watch,
) -> int:
    threading.excepthook = _thread_died
    db = open_index(settings)
    acceptor = Acceptor(db, settings, watch)
    server = listener.make_server(listening, settings, acceptor.handlers(), watch)
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS / 2,), daemon=True)
    thread.start()
    watch.start()
    logs.get().info("receiving", child=number)
    next_beat = time.monotonic() + _BEAT_SECONDS
    while not life.sleep(_LOOK_SECONDS):
        if life.wants_reload():
            acceptor.settings = settings_file.reloaded(acceptor.settings)
        acceptor.look_at_streams()
        acceptor.associations.close_dead(datetime.now(UTC))
        if time.monotonic() >= next_beat:
            next_beat = time.monotonic() + _BEAT_SECONDS
            _beat(acceptor)
    _finish(acceptor, server)
    db.close()
    return 0


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """Say that an association's thread died: `close_dead` ends what is left of it."""
    error = died.exc_value or died.exc_type()
    is_memory = isinstance(error, MemoryError)
    is_known = is_memory or "can't start new thread" in str(error)
    logs.get().error(
        "an association's thread died",
        why="out of memory" if is_memory else str(error),
        exc_info=None if is_known else (died.exc_type, error, died.exc_traceback),
    )


def _beat(acceptor: Acceptor) -> None:
    try:
        acceptor.associations.beat(datetime.now(UTC))
    except IndexUnavailable as error:
        logs.get().warning("the index is away", reason=str(error))


def _finish(acceptor: Acceptor, server: SharedServer) -> None:
    """Accept no more; let what is open end by itself for a while, then abort it.

    A peer that holds its association open without sending is not waited for.
    """
    server.shutdown()
    deadline = time.monotonic() + _FINISH_SECONDS
    # An end that is not written would be taken for a lost association after the next start.
    while not acceptor.associations.are_settled and time.monotonic() < deadline:
        for one in acceptor.associations.all():
            if one.silent_seconds > _SILENT_SECONDS:
                acceptor.abort(one)
        acceptor.associations.close_dead(datetime.now(UTC))
        time.sleep(0.1)
    left = acceptor.associations.all()
    for one in left:
        acceptor.abort(one)
    ends_at = time.monotonic() + _ABORT_SECONDS
    for one in left:
        one.assoc.join(max(0.0, ends_at - time.monotonic()))
    _beat(acceptor)
    acceptor.close()
