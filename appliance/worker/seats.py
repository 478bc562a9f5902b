"""Which lanes this worker has open: they follow the streams folder, the settings and the switches.

A stream that is good, switched on, and that something on this machine can run now
has as many lanes as its info.json says.  Of every other one it is told why not.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from appliance.index.lanes import Lane as LaneRow
from appliance.streams.catalog import Stream
from appliance.worker.executor import Executor, Waits, executor_for
from appliance.worker.lanes import Lane
from appliance.worker.output_watch import is_full
from appliance.worker.site import Site


@dataclass(frozen=True, slots=True)
class _Found:
    """Who runs each stream, or why nobody can."""

    executors: dict[str, Executor] = field(default_factory=dict)
    waits: dict[str, Waits] = field(default_factory=dict)


class Seats:
    """The lanes of one worker: one thread follows the streams, another asks for the rows."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._lanes: list[Lane] = []
        self._found = _Found()

    @property
    def lanes(self) -> Sequence[Lane]:
        """The lanes whose threads live, also those that end after their job."""
        with self._lock:
            self._lanes = [lane for lane in self._lanes if lane.is_alive()]
            return list(self._lanes)

    def follow(self, switched_off: Collection[str]) -> None:
        """Open and close lanes, so that they are what `site.streams` asks for.

        Asking a Docker that hangs takes its patience; `rows` does not wait for that.
        """
        found = _Found()
        for stream in self._site.streams.all:
            if stream.ae_title and stream.ae_title not in found.executors:
                self._judge(stream, stream.ae_title in switched_off, found)
        self._found = found
        for ae_title in {*found.executors, *(lane.ae_title for lane in self.lanes)}:
            self._set(ae_title)

    def rows(self, now: datetime) -> list[LaneRow]:
        """Say how each lane is, and for each stream without one why it has none."""
        alive = self.lanes
        rows = [
            self._row(one.ae_title, one.number, now, waits=self._closing(one), job_id=one.job_id)
            for one in alive
            if one.job_id is not None or not one.is_closing
        ]
        served = {lane.ae_title for lane in alive if not lane.is_closing}
        rows += [
            self._row(ae_title, 0, now, waits=waits)
            for ae_title, waits in self._found.waits.items()
            if ae_title not in served
        ]
        return rows

    def _closing(self, lane: Lane) -> Waits | None:
        """Say why a lane takes no more jobs after the one that it runs; None when it does."""
        if not lane.is_closing:
            return None
        ends = Waits("This lane ends after its job.", "")
        return self._found.waits.get(lane.ae_title, ends)

    def _judge(self, stream: Stream, is_switched_off: bool, found: _Found) -> None:
        waits = _not_serving(stream, is_switched_off) or self._no_room()
        if waits is None:
            executor = executor_for(self._site.settings, stream, self._site.executors)
            if not isinstance(executor, Waits):
                found.executors[stream.ae_title] = executor
                found.waits.pop(stream.ae_title, None)
                return
            waits = executor
        found.waits.setdefault(stream.ae_title, waits)

    def _no_room(self) -> Waits | None:
        """Have jobs wait where a run would be stopped at once for want of space."""
        if not is_full(self._site.layout.root):
            return None
        return Waits("The data volume is full", "make room on it: its jobs go on by themselves")

    def _set(self, ae_title: str) -> None:
        stream = self._site.streams.find(ae_title)
        is_served = ae_title in self._found.executors and stream is not None
        wanted = stream.good_info.lanes if is_served and stream is not None else 0
        there = [one for one in self.lanes if one.ae_title == ae_title and not one.is_closing]
        for lane in there[wanted:]:
            lane.close()
        for _ in range(wanted - len(there)):
            lane = Lane(self._site, ae_title)
            lane.start()
            with self._lock:
                self._lanes.append(lane)

    def _row(
        self,
        ae_title: str,
        number: int,
        now: datetime,
        *,
        waits: Waits | None = None,
        job_id: int | None = None,
    ) -> LaneRow:
        executor = self._found.executors.get(ae_title)
        return LaneRow(
            id=f"{self._site.worker} {number} {ae_title}",
            worker=self._site.worker,
            ae_title=ae_title,
            is_open=waits is None,
            why_not=_whole(waits.sentence) if waits else "",
            remedy=waits.remedy if waits else "",
            executor=executor.name if executor else "",
            job_id=job_id,
            last_beat_at=now,
            is_confined=executor is not None and executor.is_confined,
        )


def _whole(sentence: str) -> str:
    """Give a sentence with its full stop: others are said after it."""
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _not_serving(stream: Stream, is_switched_off: bool) -> Waits | None:
    if not stream.is_good:
        said = " ".join(str(problem) for problem in stream.problems if problem.stops)
        return Waits(said, f"brookbox streams check {stream.folder}")
    if not stream.is_enabled:
        return Waits("It is switched off in its info.json.", 'set "enabled": 1 in its info.json')
    if is_switched_off:
        return Waits("It was switched off on its page.", "switch it on there again")
    return None
