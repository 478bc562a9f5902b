"""What `brookbox up` says once the node is ready: where to send, what it does, where to look."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from appliance.health.node_checks import best_lanes
from appliance.index.database import open_index
from appliance.index.lanes import Lane
from appliance.settings import Settings
from appliance.streams.catalog import Stream, Streams, streams_of
from web.access_key import needs_key

_LANES_SECONDS = 5.0


def greeting(settings: Settings) -> Iterator[str]:
    """Give the lines, in plain words."""
    receiver, node = settings.receiver, settings.node
    where = "all addresses" if receiver.address in ("0.0.0.0", "::") else receiver.address
    yield ""
    yield f"DICOM: port {receiver.port} on {where}. Send a study to one of these AE titles:"
    streams = streams_of(settings)
    lanes = _lanes(settings, streams)
    for stream in streams.all:
        yield f"  {stream.ae_title or stream.folder.name:<16}  {_about(stream, lanes)}"
    yield f"  {node.ae_title:<16}  the node itself: answers echo, keeps studies without processing"
    if receiver.tls_port:
        yield f"DICOM over TLS: port {receiver.tls_port} on {where}, with the same AE titles."
    yield f"Web page: {_web(settings)}"
    if needs_key(settings) and settings.access_key_file.is_file():
        yield f"Access key of the page: {_key(settings)}"
    yield f"Everything it keeps is in {settings.data_root}. Ctrl-C stops all of it."


def _about(stream: Stream, lanes: dict[str, Lane]) -> str:
    if stream.info is None or not stream.is_good:
        reason = "; ".join(str(problem) for problem in stream.problems if problem.stops)
        return f"does not serve: {reason}"
    what = stream.info.description or stream.info.name or stream.folder.name
    if not stream.is_enabled:
        return f"{what} (off: enabled is 0 in info.json)"
    lane = lanes.get(stream.ae_title)
    if lane is None:
        return f"{what} (no worker serves it yet)"
    if lane.is_open:
        ways = {"container": "runs in a container", "process": "runs as a plain process"}
        return f"{what} ({ways.get(lane.executor, 'runs')}{_because(lane)})"
    return f"{what} (its jobs wait: {lane.why_not} Try: {lane.remedy})"


def _because(lane: Lane) -> str:
    return f": {lane.why_not}" if lane.why_not else ""


def _web(settings: Settings) -> str:
    address = settings.web.address
    host = "127.0.0.1" if address in ("0.0.0.0", "::") else address
    return f"http://{host}:{settings.web.port}/"


def _key(settings: Settings) -> str:
    # What is no terminal is a log, and a log is read by others.
    file = settings.access_key_file
    return file.read_text("utf-8").strip() if sys.stdout.isatty() else f"it is in {file}"


def _lanes(settings: Settings, streams: Streams) -> dict[str, Lane]:
    """Wait a moment until the worker has said what it can run; give the best lane of each."""
    wanted = {stream.ae_title for stream in streams.serving()}
    db = open_index(settings)
    deadline = time.monotonic() + _LANES_SECONDS
    try:
        while not wanted <= (found := best_lanes(db)).keys() and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        db.close()
    return found
