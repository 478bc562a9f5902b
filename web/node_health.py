"""The node's health: what is wrong, what was, and its own numbers of the last week."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask import Blueprint, g, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from appliance.health import kernel_clock
from appliance.index import alerts, samples
from appliance.index.alerts import Alert
from appliance.index.samples import COUNTS, NAMES, Sample
from web import sparkline, wording
from web.frame import page
from web.node import Node, node
from web.sparkline import Sparkline

node_health = Blueprint("node_health", __name__)

_ENDED = 20
_WEEK_HOURS = 168
SPANS = {"24": "24 hours", "168": "7 days"}
_CLOCK = {
    True: "The kernel says that this machine's clock is kept right.",
    False: "The kernel says that nothing keeps this machine's clock right.",
    None: "The kernel does not say whether something keeps this machine's clock right.",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One number as the page shows it; `said` sums it up, `most` labels the top of the line."""

    name: str
    title: str
    said: str
    most: str
    is_count: bool
    line: Sparkline


def _whole(value: float) -> str:
    return wording.grouped(round(value))


_TITLES: dict[str, tuple[str, Callable[[float], str]]] = {
    "instances_received": ("Instances received", _whole),
    "bytes_received": ("Received", wording.size),
    "jobs_succeeded": ("Jobs that succeeded", _whole),
    "jobs_failed": ("Jobs that failed", _whole),
    "wait_seconds": ("Median wait of jobs", wording.lasted),
    "studies_waiting": ("Studies waiting", _whole),
    "deliveries_sent": ("Deliveries sent", _whole),
    "deliveries_failed": ("Deliveries given up", _whole),
    "disk_free_bytes": ("Free on the data volume", wording.size),
}


@node_health.get("/node")
def show() -> ResponseReturnValue:
    """Show the node's health."""
    hours = _hours()
    open_now, ended = _alerts(node())
    numbers = [_shown(node(), name, g.now, hours) for name in _TITLES]
    clock = _CLOCK[kernel_clock.is_synchronised()]
    if any(one.kind == "clock" for one in open_now):
        clock = ""  # it is said above
    return page(
        "health.html", open_alerts=open_now, ended_alerts=ended, numbers=numbers, clock=clock,
        spans=SPANS, hours=str(hours), has_numbers=any(one.said for one in numbers),
        width=sparkline.WIDTH, height=sparkline.HEIGHT,
    )  # fmt: skip


@node_health.get("/api/v1/node")
def show_json() -> ResponseReturnValue:
    """Give the same to a program, without the lines."""
    open_now, ended = _alerts(node())
    clock = kernel_clock.is_synchronised()
    return jsonify(open=open_now, ended=ended, clock_is_synchronised=clock, numbers=list(NAMES))


@node_health.get("/api/v1/alerts")
def alerts_json() -> ResponseReturnValue:
    """Give what is wrong now, and what was."""
    open_now, ended = _alerts(node())
    return jsonify(open=open_now, ended=ended)


@node_health.get("/api/v1/numbers")
def numbers_json() -> ResponseReturnValue:
    """Give the samples of one number, or the names of all."""
    name = request.args.get("name", "")
    if not name:
        return jsonify(names=list(NAMES))
    if name not in NAMES:
        raise BadRequest(f"There is no number of that name; there are {', '.join(NAMES)}.")
    found = _samples(node(), name, g.now - timedelta(hours=_hours()))
    return jsonify(name=name, samples=found)


def _hours() -> int:
    asked = request.args.get("hours", str(_WEEK_HOURS))
    if not (asked.isascii() and asked.isdigit()) or not 1 <= int(asked[:6]) <= _WEEK_HOURS:
        raise BadRequest(f"hours must be a whole number from 1 to {_WEEK_HOURS}.")
    return int(asked)


def _alerts(here: Node) -> tuple[list[Alert], list[Alert]]:
    with here.db.read() as connection:
        return alerts.open_alerts(connection), alerts.ended(connection, _ENDED)


def _samples(here: Node, name: str, since: datetime) -> list[Sample]:
    with here.db.read() as connection:
        return samples.series(connection, name, since)


def _shown(here: Node, name: str, now: datetime, hours: int) -> Shown:
    title, say = _TITLES[name]
    since = now - timedelta(hours=hours)
    found = _samples(here, name, since)
    is_count = name in COUNTS
    draw = sparkline.bars if is_count else sparkline.line
    stretches = hours * 4 if hours <= 24 else hours // 2
    drawn = draw(found, since, now, stretches)
    most = f"at most {say(drawn.most)}" if drawn.most else ""
    if is_count and most:
        most += f" in {wording.lasted(timedelta(hours=hours) / stretches)}"
    return Shown(name, title, _summed_up(name, found, say), most, is_count, drawn)


def _summed_up(name: str, found: Sequence[Sample], say: Callable[[float], str]) -> str:
    if not found:
        return ""
    if name in COUNTS:
        return say(sum(one.value for one in found))
    return f"{say(found[-1].value)} {'at last' if name == 'wait_seconds' else 'now'}"
