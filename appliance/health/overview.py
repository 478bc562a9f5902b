"""The node at one glance: who is alive, what waits, what hinders it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance.disk import space, trash
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.disk.quarantine_list import QuarantineList
from appliance.errors import QueueUnavailable
from appliance.health import machine_checks, node_lock
from appliance.health.gone_streams import Gone, gone_streams
from appliance.health.node_checks import PROCESSES, best_lanes
from appliance.index import alerts, beats, figures, job_list, lanes
from appliance.index.database import Database
from appliance.queue.depth import look
from appliance.settings import Settings
from appliance.streams.catalog import COPY_REMEDY, Stream, streams_of


@dataclass(frozen=True, slots=True)
class Alive:
    """One process, and how long ago it said that it is alive."""

    name: str
    process: str
    silent_seconds: float
    says: str


@dataclass(frozen=True, slots=True)
class StreamState:
    """One stream: whether it can run, why not, and what waits for it.

    `state` is "can run", "waits", "off", "broken", which is refused until it is mended, or
    "gone": jobs wait or run, and no stream has their AE title.  `rings` is gearmand's count,
    None when it does not answer.
    """

    ae_title: str
    folder: str
    state: str
    can_run: bool
    why: str
    remedy: str
    executor: str
    waiting: int
    running: int
    rings: int | None


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that `brookbox status` shows.

    `refuses` says why the disk takes no studies; "" when it takes them.
    """

    is_running: bool
    pid: int | None
    processes: tuple[Alive, ...]
    missing: tuple[str, ...]
    streams: tuple[StreamState, ...]
    jobs: dict[str, int]
    results_held: int  # jobs whose results wait for a person to release them
    deliveries: dict[str, int]
    free_bytes: int
    size_bytes: int
    refuses: str
    refuses_remedy: str
    quarantined: int  # files that came into quarantine in the last 24 hours
    held: int  # and, apart from them, those that wait there for a person to decide
    erasures: tuple[str, ...]  # those that have begun and not ended
    gearmand: str
    alerts: tuple[str, ...]  # what is wrong now, a sentence each


def overview(settings: Settings, db: Database) -> Overview:
    """Look at everything once."""
    now = datetime.now(UTC)
    holder = node_lock.holder(Layout(settings.data_root).run)
    with db.read() as connection:
        seen = beats.all_beats(connection)
        jobs = job_list.count_by_state(connection)
        results_held = job_list.count_held(connection)
        deliveries = figures.count_deliveries(connection)
        is_wrong = alerts.open_alerts(connection)
    alive = [Alive(b.name, b.process, max((now - b.at).total_seconds(), 0), b.says) for b in seen]
    volume = space.measure(settings.data_root)
    refusals = list(machine_checks.refusals(settings, volume))
    rings, why = _rings(settings)
    listed = QuarantineList(Layout(settings.data_root))
    return Overview(
        is_running=holder is not None,
        pid=holder.pid if holder else None,
        processes=tuple(alive),
        missing=tuple(name for name in PROCESSES if name not in {b.name for b in seen}),
        streams=tuple(_streams(settings, db, rings)),
        jobs=jobs,
        results_held=results_held,
        deliveries=deliveries,
        free_bytes=volume.free_bytes,
        size_bytes=volume.total_bytes,
        refuses=" ".join(sentence for sentence, _ in refusals),
        refuses_remedy="; ".join(remedy for _, remedy in refusals),
        quarantined=listed.count_since(now - timedelta(hours=24)),
        held=listed.counts()[Kind.HELD],
        erasures=tuple(trash.begun(Layout(settings.data_root))),
        gearmand=why,
        alerts=tuple(one.sentence for one in is_wrong),
    )


def _streams(settings: Settings, db: Database, rings: dict[str, int] | None) -> list[StreamState]:
    with db.read() as connection:
        waiting = job_list.waiting_by_stream(connection)
        off = lanes.switched_off(connection)
        running = [job.ae_title for job in job_list.running_jobs(connection)]
        streams = streams_of(settings)
        gone = gone_streams(connection, streams, settings.streams_folder)
    best = best_lanes(db)
    found = []
    for stream in streams.all:
        lane = best.get(stream.ae_title)
        state, why, remedy = _why_not(stream, stream.ae_title in off)
        if is_copy := bool(streams.why_copy(stream)):
            why, remedy = streams.why_copy(stream), COPY_REMEDY
        if not state:
            state = "can run" if lane is not None and lane.is_open else "waits"
            why = lane.why_not if lane else "No worker serves it."
            remedy = lane.remedy if lane else "brookbox up, or brookbox worker"
        found.append(
            StreamState(
                ae_title=stream.ae_title,
                folder=stream.folder.name,
                state=state,
                can_run=state == "can run",
                why=why,
                remedy=remedy,
                executor=lane.executor if lane and not is_copy else "",
                # Jobs and rings are those of the folder that serves.
                waiting=0 if is_copy else waiting.get(stream.ae_title, 0),
                running=0 if is_copy else running.count(stream.ae_title),
                rings=None if rings is None else 0 if is_copy else rings.get(stream.ae_title, 0),
            )
        )
    return found + [_of_gone(one, rings) for one in gone]


def _of_gone(gone: Gone, rings: dict[str, int] | None) -> StreamState:
    return StreamState(
        ae_title=gone.ae_title,
        folder="",
        state="gone",
        can_run=False,
        why=f"No stream has the AE title {gone.ae_title} any more.",
        remedy=gone.remedy,
        executor="",
        waiting=gone.waiting,
        running=gone.running,
        rings=None if rings is None else rings.get(gone.ae_title, 0),
    )


def _why_not(stream: Stream, is_off: bool) -> tuple[str, str, str]:
    """Say of one that does not serve: its state, why, and what to do; "" of the others."""
    if not stream.is_good:
        stops = "; ".join(str(problem) for problem in stream.problems if problem.stops)
        return "broken", stops, f"brookbox streams check {stream.folder}"
    if not stream.is_enabled:
        return "off", "It is off: enabled is 0 in info.json.", "set enabled to 1 in its info.json"
    if is_off:
        return "off", "A person switched it off.", "switch it on in the web"
    return "", "", ""


def _rings(settings: Settings) -> tuple[dict[str, int] | None, str]:
    rings: dict[str, int] = {}
    try:
        for server in look(settings.queue.servers, 2.0):
            for depth in server.depths:
                rings[depth.ae_title] = rings.get(depth.ae_title, 0) + depth.queued
    except QueueUnavailable as error:
        return None, str(error)
    return rings, ""
