"""The receiver: a parent that opens the port and looks after the processes that receive.

The parent takes part in no association.  At its start, and whenever a child died, it
adopts what was left in incoming/ and closes the dead process's associations.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from appliance import bells, ids, lifecycle, logs, settings_file
from appliance.disk import space
from appliance.disk.layout import Layout
from appliance.errors import BrookboxError, DiskError, IndexUnavailable, SyncFailed, explain
from appliance.health import deaths
from appliance.index import arrivals, beats, events
from appliance.index.database import Database, connect, open_index
from appliance.intake.adoption import adopt
from appliance.receiver import listener
from appliance.receiver.children import Children
from appliance.settings import Settings
from appliance.streams.catalog import streams_of

_CHILD = "receiving process"
_LOOK_SECONDS = 0.5
_BEAT_SECONDS = 10.0
_ADOPT_AGAIN_SECONDS = 60.0
_TRY_AGAIN_SECONDS = 5.0


def run(settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    logs.set_up("receiver", settings.node.log_level)
    if os.environ.get("BROOKBOX_SUPERVISED") == "1":
        lifecycle.die_with_parent()
    life = lifecycle.Lifecycle()
    layout = Layout(settings.data_root)
    try:
        layout.make()
        open_index(settings).close()
        listening = listener.open_all(settings)
    except BrookboxError as error:
        print(explain(error), file=sys.stderr)
        return 1
    space.clear_degraded(layout)
    Parent(settings, life, Children(listening, life)).loop()
    return 0


class Parent:
    """The loop, and what it remembers between two looks."""

    def __init__(self, settings: Settings, life: lifecycle.Lifecycle, children: Children) -> None:
        self._settings = settings
        self._life = life
        self._children = children
        self._layout = Layout(settings.data_root)
        self._me = str(ids.this_process())
        self._adopt_at = self._beat_at = self._tell_at = time.monotonic()

    def loop(self) -> None:
        """Start the children, look after them, stop them."""
        self._look_after_the_dead()
        self._children.start(self._settings)
        logs.get().info(
            "receiver started",
            port=self._settings.receiver.port,
            processes=self._settings.receiver.processes,
        )
        while not self._life.is_stopping:
            if self._children.wait(_LOOK_SECONDS):
                self._adopt_at = time.monotonic()
            self._reload()
            self._look_after_the_dead()
            self._children.start(self._settings)
            self._end_stuck()
            self._tell_of_deaths(deaths.PATIENCE_SECONDS)
            self._beat()
        self._children.stop()
        self._tell_of_deaths(0)
        self._leave()

    def _reload(self) -> None:
        if self._life.wants_reload():
            self._settings = settings_file.reloaded(self._settings)
            self._children.reload()

    def _look_after_the_dead(self) -> None:
        """Adopt files and close rows of dead processes; tried again when it cannot be done."""
        if time.monotonic() < self._adopt_at:
            return
        self._adopt_at = time.monotonic() + _ADOPT_AGAIN_SECONDS
        try:
            with self._index() as db:
                now = datetime.now(UTC)
                rules = self._settings.receiver
                adopt(db, self._layout, streams_of(self._settings), now, lambda: rules)
                _close_rows(db, now)
            bells.ring(self._layout.run, "dispatcher")
        except (IndexUnavailable, DiskError) as error:
            logs.get().error("leftovers not adopted yet", reason=str(error), remedy=error.remedy)
            if isinstance(error, SyncFailed):
                space.mark_degraded(self._layout, str(error))
            self._adopt_at = time.monotonic() + _TRY_AGAIN_SECONDS

    def _end_stuck(self) -> None:
        """End what accepts or answers nothing any more, and tell of it: the others go on."""
        ended = self._children.end_stuck(self._settings.receiver.stuck_seconds)
        for pid, seconds in ended.items():
            sentence = (
                f"receiving process (pid {pid}) was restarted: "
                f"for {seconds} s it accepted nothing, or did not answer what it had begun."
            )
            try:
                with self._index() as db, db.write() as connection:
                    events.append(
                        connection, "restarted", sentence, datetime.now(UTC), who="receiver",
                        part=_CHILD,
                    )  # fmt: skip
            except IndexUnavailable as error:
                logs.get().warning("event not kept", reason=str(error), said=sentence)

    def _tell_of_deaths(self, patience_seconds: float) -> None:
        """Tell of each child that died, once others have told of those that they ended."""
        kept = self._children.deaths
        due = [one for one in kept if time.monotonic() - one.at >= patience_seconds]
        if not due or time.monotonic() < self._tell_at:
            return
        try:
            with self._index() as db:
                for one in due:
                    how, now = deaths.how(one.exit_code), datetime.now(UTC)
                    deaths.tell(db, "receiver", _CHILD, one.pid, how, now, again=True)
                    self._children.deaths.remove(one)
        except IndexUnavailable as error:
            logs.get().warning("event not kept yet", reason=str(error), deaths=len(due))
            self._tell_at = time.monotonic() + _TRY_AGAIN_SECONDS

    def _beat(self) -> None:
        if time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + _BEAT_SECONDS
        says = space.degraded(self._layout)
        try:
            with self._index() as db:
                beats.beat(db, self._me, "receiver", datetime.now(UTC), says)
        except IndexUnavailable as error:
            logs.get().warning("the index is away", reason=str(error))

    def _leave(self) -> None:
        try:
            with self._index() as db:
                _close_rows(db, datetime.now(UTC))
                beats.remove(db, [self._me])
        except IndexUnavailable as error:
            logs.get().warning("the index is away", reason=str(error))
        logs.get().info("receiver stopped")

    @contextmanager
    def _index(self) -> Iterator[Database]:
        """Lend a connection that is closed again: none may be open at the next fork."""
        db = connect(self._settings)
        try:
            yield db
        finally:
            db.close()


def _close_rows(db: Database, now: datetime) -> None:
    """Close the associations of processes that are gone, with that as their end.

    SQLite's file is on this machine: a process of another host name is one of this
    machine before it was renamed, such as a container that was made again.
    """
    here = ids.this_process().host
    dead = [
        name
        for name in arrivals.receiving_processes(db)
        if _is_gone(name, here if db.is_sqlite else "")
    ]
    if dead and (closed := arrivals.close_associations_of(db, dead, now)):
        logs.get().warning("associations of dead processes closed", associations=closed)


def _is_gone(name: str, only_host: str) -> bool:
    try:
        process = ids.parse_process(name)
    except ValueError:
        return True
    return not process.is_alive() or bool(only_host and process.host != only_host)
