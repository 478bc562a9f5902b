"""One receiving process: its doors, both paths, and a main loop that looks after them."""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
import time
from datetime import UTC, datetime

from appliance import lifecycle, logs, settings_file
from appliance.disk.layout import Layout
from appliance.errors import BrookboxError, IndexUnavailable, explain
from appliance.index.database import open_index
from appliance.intake.way import Ways
from appliance.intake.writer import Writer
from appliance.receiver.acceptor import Acceptor
from appliance.receiver.associations import Associations
from appliance.receiver.connections import Connections
from appliance.receiver.direct import Direct
from appliance.receiver.door import Door
from appliance.receiver.front import Front
from appliance.receiver.garbage import Garbage
from appliance.receiver.judge import Judge
from appliance.receiver.listener import Listening
from appliance.receiver.negotiation import Negotiator
from appliance.receiver.pulse import Pulse, Watch
from appliance.receiver.shared_counts import Seat, Table
from appliance.receiver.stock import Stock
from appliance.receiver.storing import Storing
from appliance.settings import Receiver, Settings

_LOOK_SECONDS = 0.5
_BEAT_SECONDS = 5.0
_FINISH_SECONDS = 30.0
_SILENT_SECONDS = 5.0
_ABORT_SECONDS = 3.0
_COLLECT_SECONDS = 30.0
_SWITCH_SECONDS = 0.0001


def run(
    settings: Settings,
    listening: Listening,
    life: lifecycle.Lifecycle,
    number: int,
    parent: int,
    pulse: Pulse,
    counted: Table,
) -> None:
    """Receive until told to stop, or until the parent dies; then end this process."""
    lifecycle.die_with_parent(parent=parent)
    watch = Watch(pulse)
    watch.start()
    threading.excepthook = _thread_died
    # The writer's thread must not keep an answer waiting for Python's 5 ms.
    sys.setswitchinterval(_SWITCH_SECONDS)
    log = logs.write_behind()
    try:
        receiving = Receiving(settings, listening, Seat(counted, number), watch)
        receiving.open()
        logs.get().info("receiving", child=number)
        receiving.loop(life)
        receiving.close()
        code = 0
    except BrookboxError as error:
        print(explain(error), file=sys.stderr)
        code = 1
    log.flush()
    sys.stderr.flush()
    # Threads that wait for a peer must not keep us from ending.
    os._exit(code)


class Receiving:
    """What one process is made of."""

    def __init__(self, settings: Settings, listening: Listening, seat: Seat, watch: Watch) -> None:
        self._listening = listening
        self._db = open_index(settings)
        layout = Layout(settings.data_root)
        own_ae_title = settings.node.ae_title.strip(" ")
        self.writer = Writer(self._db, layout, self._rules)
        self._judge = Judge(self._db, settings, seat, watch, lambda: self.writer.seconds_behind)
        self.associations = Associations(self._db, self.writer, seat)
        self._judge.makes_room = self.associations.end_idle
        self._ways = Ways(self._db, layout, own_ae_title, self._rules, self.writer)
        garbage = Garbage()
        storing = Storing(
            self._ways.slow, self.associations, layout, lambda: self._judge.settings, watch
        )
        self._acceptor = Acceptor(self._judge, self.associations, storing, self._rules)
        address = listening.plain.getsockname()
        stock = Stock(settings, self._acceptor, garbage, address, self._rules)
        self._negotiator = Negotiator(settings.receiver.max_pdu_bytes)
        direct = Direct(
            self._judge, self._negotiator, self.associations, self._ways, watch, self._rules
        )
        self._connections = Connections(seat, lambda: self._rules().max_associations)
        front = Front(self._connections, direct, stock, self._negotiator, garbage)
        give_way = self._connections.give_way
        place = seat.number / settings.receiver.processes
        self._doors = [Door(listening.plain, front.serve, give_way, watch, place)]
        if listening.secured is not None and listening.tls_context is not None:
            serve_tls = functools.partial(front.serve_tls, context=listening.tls_context)
            self._doors.append(Door(listening.secured, serve_tls, give_way, watch, place))

    def open(self) -> None:
        """Begin to receive."""
        self.writer.start()
        for door in self._doors:
            door.open()

    def loop(self, life: lifecycle.Lifecycle) -> None:
        """Look after it until told to stop."""
        beat_at = time.monotonic() + _BEAT_SECONDS
        collect_at = time.monotonic() + _COLLECT_SECONDS
        while not life.sleep(_LOOK_SECONDS):
            if life.wants_reload():
                self._reload()
            self._look()
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + _BEAT_SECONDS
                self._beat()
                self._ways.folders.close_unused(_BEAT_SECONDS)
            if time.monotonic() >= collect_at:
                collect_at = time.monotonic() + _COLLECT_SECONDS
                gc.collect()  # pynetdicom's dead associations hold each other

    def close(self) -> None:
        """Accept no more; let what is open end by itself for a while, then abort it.

        A peer that holds its association open without sending is not waited for.
        """
        for door in self._doors:
            door.close()
        # The parent may have died: who comes after it needs the port, while we finish here.
        self._listening.close()
        self._connections.cut_all()
        self._wait_for_ends(_FINISH_SECONDS)
        for one in self.associations.all():
            one.abort()
        self._wait_for_ends(_ABORT_SECONDS)
        self._beat()
        # An end that is not written would be taken for a lost association after the next start.
        self.writer.close()
        self._ways.close()
        self._db.close()

    def _wait_for_ends(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.associations.all() and time.monotonic() < deadline:
            for one in self.associations.all():
                if one.silent_seconds > _SILENT_SECONDS:
                    one.abort()
            self.associations.close_dead()
            time.sleep(0.1)

    def _reload(self) -> None:
        self._judge.settings = settings_file.reloaded(self._judge.settings)
        self._judge.forget()
        self._negotiator.forget()

    def _look(self) -> None:
        rules = self._rules()
        self._judge.look_at_streams()
        self._connections.cut_overdue(
            rules.header_timeout_seconds + rules.association_timeout_seconds
        )
        self._acceptor.end_slow()
        self.associations.close_dead()

    def _beat(self) -> None:
        try:
            self.associations.beat(datetime.now(UTC))
        except IndexUnavailable as error:
            logs.get().warning("the index is away", reason=str(error))

    def _rules(self) -> Receiver:
        return self._judge.settings.receiver


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
