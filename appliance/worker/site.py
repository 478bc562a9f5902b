"""What every attempt of one worker process works with."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from appliance import bells, logs
from appliance.disk.incoming import NOBODY
from appliance.disk.layout import Layout
from appliance.index.database import Database
from appliance.index.lost_attempts import is_dead_process
from appliance.settings import Settings
from appliance.streams.catalog import Streams
from appliance.worker.executor import Executor
from appliance.worker.stray_rings import StrayRings


@dataclass(slots=True)
class Site:
    """The worker's settings, streams and executors.

    `settings` and `streams` are replaced by the main thread when they change.
    `poke` wakes every attempt: a person asked to cancel one.
    """

    settings: Settings
    db: Database
    layout: Layout
    worker: str  # ids.ProcessName
    executors: Sequence[Executor]
    streams: Streams = field(default_factory=Streams)
    stopping: threading.Event = field(default_factory=threading.Event)
    poke: threading.Condition = field(default_factory=threading.Condition)
    strays: StrayRings = field(init=False)

    def __post_init__(self) -> None:
        self.strays = StrayRings(self.db)

    @property
    def lease(self) -> timedelta:
        """How long an attempt may be silent."""
        return timedelta(seconds=self.settings.worker.lease_seconds)

    @property
    def owners(self) -> frozenset[int]:
        """The users whose files in OUTPUT may be results: ours, and nobody when we are root."""
        own = os.geteuid()
        return frozenset({own, NOBODY} if own == 0 else {own})

    def ring(self, name: str) -> None:
        """Ring another process of this machine."""
        bells.ring(self.layout.run, name)

    def sweep(self) -> None:
        """Have what dead workers of this machine left running stopped."""
        for executor in self.executors:
            executor.sweep(lambda worker: not is_dead_process(worker))
        logs.get().debug("leftovers swept")
