"""Home: how to send, how things stand, how full the disk is, which services run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from appliance.index import beats, figures, job_list, lanes, retention
from appliance.index.job_list import Filter
from appliance.index.retention import Hindrance
from appliance.index.states import JobState
from web.banners import SILENT_AFTER, Banner, Service, banners_now, services
from web.disk_use import DiskUse, disk_use
from web.frame import page
from web.jobs import JobRow
from web.node import Node, node
from web.reach import Target, addresses, targets

home = Blueprint("home", __name__)

_LAST_FAILURES = 5
_RUNNING_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Counters:
    """Four numbers that say how the day goes."""

    waiting: int
    running: int
    failed_in_24_hours: int
    finished_today: int


@dataclass(frozen=True, slots=True)
class HomePage:
    """Everything on Home."""

    node_ae_title: str
    host_name: str
    addresses: list[str]
    dicom_port: int
    targets: list[Target]
    counters: Counters
    running: list[JobRow]
    failures: list[JobRow]
    disk: DiskUse
    holds_space: list[Hindrance]
    services: list[Service]
    gearmand: str
    banners: tuple[Banner, ...]
    is_first_start: bool


@home.get("/")
def show() -> ResponseReturnValue:
    """Show Home."""
    return page("home.html", home=read_home(node()))


@home.get("/api/v1/status")
def show_json() -> ResponseReturnValue:
    """Give the same to a program."""
    return jsonify(read_home(node()))


def read_home(here: Node) -> HomePage:
    """Gather Home."""
    now, use = g.now, disk_use(here)
    local = now.astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    with here.db.read() as connection:
        by_state = job_list.count_by_state(connection)
        in_a_day = figures.ended_since(connection, now - timedelta(hours=24))
        today = figures.ended_since(connection, midnight)
        seen = beats.all_beats(connection)
        switched_off = lanes.switched_off(connection)
        seats = lanes.lanes_since(connection, now - SILENT_AFTER)
        is_tight = use.is_out_of_space or use.used_percent > here.settings.housekeeper.high_percent
        holds_space = retention.hindrances(connection) if is_tight else []
    return HomePage(
        node_ae_title=here.settings.node.ae_title,
        host_name=here.host_name,
        addresses=addresses(here.settings),
        dicom_port=here.settings.receiver.port,
        targets=targets(here.settings, here.streams(), seats, switched_off),
        counters=Counters(
            waiting=by_state[JobState.QUEUED],
            running=by_state[JobState.RUNNING],
            failed_in_24_hours=in_a_day[JobState.FAILED],
            finished_today=today[JobState.SUCCEEDED] + today[JobState.PARTIAL],
        ),
        running=_rows(here, JobState.RUNNING, _RUNNING_SHOWN),
        failures=_rows(here, JobState.FAILED, _LAST_FAILURES),
        disk=use,
        holds_space=holds_space,
        services=services(seen, now),
        gearmand=here.gearmand.why_silent(here.settings),
        banners=banners_now(here, now),
        is_first_start=not any(by_state.values()),
    )


def _rows(here: Node, state: str, limit: int) -> list[JobRow]:
    with here.db.read() as connection:
        found = job_list.jobs_matching(connection, Filter(states=(state,)), limit)
        studies = job_list.studies_of(connection, found)
    return [JobRow(job, studies.get(job.study_uid), ()) for job in found]
