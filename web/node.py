"""What every view needs of the node: its settings, its index, its folders, its streams.

One `Node` hangs on the application; views ask for it by `node()`.  Nothing of it is
a global, so that a test can have two.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from flask import current_app

from appliance.disk.layout import Layout
from appliance.disk.quarantine_list import QuarantineList
from appliance.index.database import Database
from appliance.settings import Settings
from appliance.streams.catalog import Streams, StreamWatcher
from web.gearmand_state import GearmandAsker
from web.routing_state import RoutingReader

_KEY = "brookbox"


@dataclass(slots=True)
class Node:
    """The node as the web sees it; only `settings` changes, on a reload.

    `slots` are the requests that may wait for news of a log at one time, so that
    waiting ones never take every thread.  `is_stopping` ends their wait.
    """

    settings: Settings
    db: Database
    layout: Layout
    watcher: StreamWatcher
    slots: threading.BoundedSemaphore
    quarantine: QuarantineList
    is_stopping: threading.Event = field(default_factory=threading.Event)
    routing: RoutingReader = field(default_factory=RoutingReader)
    gearmand: GearmandAsker = field(default_factory=GearmandAsker)
    _watching: threading.Lock = field(default_factory=threading.Lock)
    host_name: str = field(default_factory=socket.gethostname)

    @classmethod
    def of(cls, settings: Settings, db: Database) -> Node:
        """Gather the node's parts."""
        layout = Layout(settings.data_root)
        return cls(
            settings=settings,
            db=db,
            layout=layout,
            quarantine=QuarantineList(layout),
            watcher=StreamWatcher.of(settings),
            slots=threading.BoundedSemaphore(max(settings.web.threads * 3 // 8, 1)),
        )

    def streams(self) -> Streams:
        """Give the streams as they stand now; the watcher is not for two threads at once."""
        with self._watching:
            return self.watcher.current()


def node() -> Node:
    """Give the node that the current request is about."""
    return cast("Node", current_app.extensions[_KEY])


def now() -> datetime:
    """Read the clock, once for each request, at its boundary."""
    return datetime.now(UTC)
