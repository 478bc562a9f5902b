"""The node in figures, in Prometheus' text format, made from the index at each scrape.

Counters only go up while the index is kept: what the housekeeper removes is not
counted down, since they count events of the receiver's associations, not files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import appliance
from appliance.disk import behind
from appliance.disk.layout import Layout
from appliance.errors import IndexUnavailable, QueueUnavailable
from appliance.index import alerts, beats, figures, job_list, lanes, totals
from appliance.index.database import Database
from appliance.queue.depth import look
from appliance.settings import Settings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LANES_COUNT = timedelta(seconds=60)
_PATIENCE_SECONDS = 2.0


def render(settings: Settings, db: Database) -> bytes:
    """Give the whole exposition; what cannot be asked just now is left out, and said so."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Node(settings, db, datetime.now(UTC)))
    text: bytes = generate_latest(registry)
    return text


class _Node(Collector):
    def __init__(self, settings: Settings, db: Database, now: datetime) -> None:
        self._settings = settings
        self._db = db
        self._now = now

    def collect(self) -> Iterable[Metric]:
        yield _gauge("brookbox_info", "The version", {(appliance.__version__,): 1.0}, "version")
        yield from self._of_index()
        yield from self._of_queue()
        yield from _of_reception(self._settings)
        yield from _of_volume(self._settings)

    def _of_index(self) -> Iterator[Metric]:
        try:
            found = list(_of_index(self._db, self._now))
        except IndexUnavailable:
            found = []
        yield _gauge("brookbox_index_up", "Whether the index can be read", {(): bool(found)})
        yield from found

    def _of_queue(self) -> Iterator[Metric]:
        rings: dict[tuple[str, ...], float] = {}
        listening: dict[tuple[str, ...], float] = {}
        try:
            for server in look(self._settings.queue.servers, _PATIENCE_SECONDS):
                for depth in server.depths:
                    key = (depth.ae_title,)
                    rings[key] = rings.get(key, 0) + depth.queued
                    listening[key] = listening.get(key, 0) + depth.lanes
            is_up = True
        except QueueUnavailable:
            is_up = False
        yield _gauge("brookbox_queue_up", "Whether every gearmand answers", {(): is_up})
        yield _gauge("brookbox_queue_rings", "Rings that wait at gearmand", rings, "stream")
        yield _gauge("brookbox_queue_listeners", "Lanes that listen", listening, "stream")


def _of_index(db: Database, now: datetime) -> Iterator[Metric]:
    with db.read() as connection:
        waiting = job_list.waiting_by_stream(connection)
        by_state = job_list.count_by_state(connection)
        deliveries = figures.count_deliveries(connection)
        sums = totals.totals(connection)
        serving = lanes.lanes_since(connection, now - _LANES_COUNT)
        seen = beats.all_beats(connection)
        open_alerts = alerts.open_alerts(connection)
    yield _gauge(
        "brookbox_jobs_waiting",
        "Queued jobs and arrivals that will become some",
        _keyed(waiting),
        "stream",
    )
    yield _gauge("brookbox_jobs", "Jobs by state", _keyed(by_state), "state")
    yield _gauge("brookbox_deliveries", "Deliveries by state", _keyed(deliveries), "state")
    yield from _of_totals(sums)
    open_lanes: dict[tuple[str, ...], float] = {(one.ae_title,): 0 for one in serving}
    for one in serving:
        open_lanes[(one.ae_title,)] += one.is_open
    yield _gauge("brookbox_lanes_open", "Lanes that can run jobs", open_lanes, "stream")
    ages: dict[tuple[str, ...], float] = {}
    for beat in seen:
        age = max((now - beat.at).total_seconds(), 0)
        ages[(beat.name,)] = min(age, ages.get((beat.name,), age))
    yield _gauge("brookbox_beat_age_seconds", "Time since a process was alive", ages, "process")
    wrong: dict[tuple[str, ...], float] = {(a.kind, a.subject): 1.0 for a in open_alerts}
    yield _gauge("brookbox_alert", "What is wrong now", wrong, "kind", "subject")


def _of_totals(sums: totals.Totals) -> Iterator[Metric]:
    yield _gauge("brookbox_associations_open", "Open associations", {(): sums.open_associations})
    yield _counter("brookbox_associations", "Associations accepted so far", sums.associations)
    yield _counter("brookbox_instances_received", "Instances received", sums.received)
    yield _counter("brookbox_instances_failed", "Instances not kept", sums.failures)
    yield _counter("brookbox_instances_sent", "Instances sent on", sums.sent)
    yield _gauge("brookbox_instances_kept", "Instances that are kept", {(): sums.kept})
    yield _gauge("brookbox_kept_bytes", "What the kept instances take", {(): sums.kept_bytes})


def _of_reception(settings: Settings) -> Iterator[Metric]:
    said = behind.read(Layout(settings.data_root))
    yield _gauge(
        "brookbox_rows_behind",
        "Images that are kept and answered, and have no row in the index yet",
        {(): sum(one.rows for one in said)},
    )
    yield _gauge(
        "brookbox_rows_behind_seconds",
        "For how long the oldest of them waits",
        {(): max((one.seconds for one in said), default=0.0)},
    )


def _of_volume(settings: Settings) -> Iterator[Metric]:
    try:
        facts = os.statvfs(settings.data_root)
    except OSError:
        return
    size, free = facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize
    yield _gauge("brookbox_disk_bytes", "Size of the data volume", {(): size})
    yield _gauge("brookbox_disk_free_bytes", "Free on the data volume", {(): free})
    yield _gauge("brookbox_disk_free_inodes", "Free inodes", {(): facts.f_favail})


def _gauge(name: str, help: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    metric = GaugeMetricFamily(name, help, labels=labels)
    for key, value in values.items():
        metric.add_metric(list(key), float(value))
    return metric


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(name, help, value=value)


def _keyed(counts: dict[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): float(count) for name, count in counts.items()}
