"""What everybody must see on every page: no space, a process down, broken routing.

In the order of how much it hurts: the disk, the receiver, the other processes, other
alerts, routing, streams whose folder is gone while studies wait, streams that a person
switched off, what is in quarantine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from appliance.disk.quarantine import Kind
from appliance.errors import IndexUnavailable
from appliance.health.alerts import URGENT
from appliance.health.gone_streams import gone_streams
from appliance.index import alerts, beats, lanes
from appliance.index.alerts import Alert
from appliance.index.beats import Beat
from web import wording
from web.disk_use import DiskUse, disk_use
from web.node import Node

_TOLD_BY_OTHERS = {"disk", "quarantine"}  # by the gauge's banner, and that of what is held
_MOST_ALERTS = 4  # on every page; all of them stand on the page Health
SILENT_AFTER = timedelta(seconds=45)

_WITHOUT = {
    "receiver": "nothing can be received",
    "dispatcher": "studies are received and kept, but no jobs are made of them",
    "worker": "jobs wait",
    "router": "results wait to be sent",
    "housekeeper": "nothing is cleaned up or restarted",
}


@dataclass(frozen=True, slots=True)
class Banner:
    """One row across the page; `level` is bad, warning or note."""

    level: str
    sentence: str
    remedy: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """One kind of process: how many beat, since when, and what it says of itself."""

    name: str
    is_up: bool
    processes: int
    started_at: datetime | None
    last_beat_at: datetime | None
    says: str


def banners_now(node: Node, now: datetime) -> tuple[Banner, ...]:
    """Gather what is wrong just now; an index that does not answer is one of them."""
    found = _of_disk(disk_use(node), node)
    try:
        with node.db.read() as connection:
            seen, switched = beats.all_beats(connection), lanes.switched_off(connection)
            gone = gone_streams(connection, node.streams(), node.settings.streams_folder)
            alarms = alerts.open_alerts(connection)
    except IndexUnavailable as error:
        return (*found, Banner("bad", f"The index does not answer: {error}.", error.remedy))
    # What the receiver says of the disk may be told already.
    told = " ".join(banner.sentence for banner in found)
    found += _of_services(services(seen, now), told)
    found += _of_alerts(alarms, found)
    if mistakes := node.routing.current(node.settings).mistakes:
        sentence = f"Routing is broken, the last good rules stay in force: {mistakes[0]}"
        found.append(Banner("warning", sentence, link="/routing"))
    for one in gone:
        link = f"/jobs?{urlencode({'stream': one.ae_title})}"
        found.append(Banner("warning", one.sentence, one.remedy, link))
    if switched:
        names = ", ".join(sorted(switched))
        found.append(Banner("note", f"Switched off by a person: {names}.", link="/streams"))
    return (*found, *_of_quarantine(node, now))


def _of_quarantine(node: Node, now: datetime) -> list[Banner]:
    """Tell of what is held until a person decides, and apart from it of what came lately."""
    found = []
    if held := node.quarantine.counts()[Kind.HELD]:
        verb = "waits" if held == 1 else "wait"
        sentence = f"{wording.count(held, 'file')} in quarantine {verb} for a person to decide."
        found.append(Banner("warning", sentence, link="/quarantine?kind=held"))
    if count := node.quarantine.count_since(now - timedelta(hours=24)):
        sentence = f"{wording.count(count, 'file')} came into quarantine in the last 24 hours."
        found.append(Banner("note", sentence, link="/quarantine"))
    return found


def _of_alerts(alarms: Sequence[Alert], told: Sequence[Banner]) -> list[Banner]:
    """Tell of each alert that no other banner tells of."""
    sentences = " ".join(banner.sentence for banner in told)
    found = [
        Banner("bad" if one.kind in URGENT else "warning", one.sentence, one.remedy, "/node")
        for one in alarms
        if one.kind not in _TOLD_BY_OTHERS and one.sentence not in sentences
    ]
    found.sort(key=lambda banner: banner.level != "bad")
    if (left := len(found) - _MOST_ALERTS) > 0:
        sentence = f"{wording.count(left, 'more thing')} {'is' if left == 1 else 'are'} wrong."
        found[_MOST_ALERTS:] = [Banner("warning", sentence, link="/node")]
    return found


def services(seen: Sequence[Beat], now: datetime) -> list[Service]:
    """Say of each kind of process whether it is up: one of it had a beat lately."""
    return [_service(name, [b for b in seen if b.name == name], now) for name in _WITHOUT]


def _service(name: str, seen: Sequence[Beat], now: datetime) -> Service:
    alive = [beat for beat in seen if now - beat.at < SILENT_AFTER]
    return Service(
        name=name,
        is_up=bool(alive),
        processes=len(alive),
        started_at=min((beat.started_at for beat in alive), default=None),
        last_beat_at=max((beat.at for beat in seen), default=None),
        says=" ".join(dict.fromkeys(beat.says for beat in alive if beat.says)),
    )


def _of_services(all_services: Sequence[Service], told: str) -> list[Banner]:
    found = []
    for service in all_services:
        if not service.is_up:
            level = "bad" if service.name in ("receiver", "worker") else "warning"
            sentence = f"The {service.name} is not running: {_WITHOUT[service.name]}."
            found.append(Banner(level, sentence, "brookbox status"))
        elif service.says and service.says not in told:
            found.append(Banner("warning", f"The {service.name} says: {service.says}"))
    return found


def _of_disk(use: DiskUse, node: Node) -> list[Banner]:
    limits = node.settings.housekeeper
    if use.degraded:
        sentence = f"The data volume failed, and studies are refused: {use.degraded}"
        return [Banner("bad", sentence, "look at the disk, then start the receiver again")]
    if use.is_out_of_space:
        sentence = (
            f"There is no space left for studies: {wording.size(use.free_bytes)} are free, "
            f"{wording.size(use.reserve_bytes)} are kept in reserve. New studies are refused."
        )
        return [Banner("bad", sentence, link="/#disk")]
    if use.used_percent > limits.high_percent:
        sentence = (
            f"The disk is {use.used_percent:.0f} % full, above {limits.high_percent:g} %: "
            "the oldest studies and results are removed early."
        )
        return [Banner("warning", sentence, link="/#disk")]
    return []
