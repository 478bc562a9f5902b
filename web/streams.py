"""The streams: what each does, whether it serves, and what is wrong with one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from appliance.index import events, figures, job_list, lanes
from appliance.index.events import Event
from appliance.index.lanes import Lane
from appliance.index.states import JobState
from appliance.streams.catalog import COPY_REMEDY, Stream
from appliance.streams.grants import grants
from appliance.streams.info import Problem, StreamInfo
from appliance.streams.limits import Limits, limits_of
from web.banners import SILENT_AFTER
from web.frame import page
from web.node import node

streams = Blueprint("streams", __name__)

_REFUSED_SHOWN = 10


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stream folder as the page shows it.

    `state` is serving, waiting (accepted, but nothing can run it now), off or broken;
    `served_by` names the folder that serves under its AE title when that is another one;
    `executor` is container, process, or "" while nobody can run it; `limits` is None for
    one whose info.json cannot be used.
    """

    ae_title: str
    folder: str
    name: str
    info: StreamInfo | None
    contract: str
    state: str
    why: str
    remedy: str
    problems: tuple[Problem, ...]
    served_by: str
    is_switched_off: bool
    lanes: tuple[Lane, ...]
    executor: str
    grants: tuple[str, ...]
    limits: Limits | None
    waiting: int
    running: int
    usual_seconds: float | None


@streams.get("/streams")
def list_streams() -> ResponseReturnValue:
    """Show the streams."""
    rows, refused = _read()
    folder = node().settings.streams_folder
    return page("streams.html", streams=rows, refused=refused, folder=folder)


@streams.get("/api/v1/streams")
def list_streams_json() -> ResponseReturnValue:
    """Give the streams to a program."""
    rows, refused = _read()
    return jsonify(streams=rows, refused_associations=refused)


def _read() -> tuple[list[StreamRow], list[Event]]:
    here = node()
    all_streams = here.streams()
    found = all_streams.all
    with here.db.read() as connection:
        seats = lanes.lanes_since(connection, g.now - SILENT_AFTER)
        switched_off = lanes.switched_off(connection)
        counts = {
            one.ae_title: job_list.count_by_state(connection, one.ae_title) for one in found
        }
        usual = {one.ae_title: figures.usual_seconds(connection, one.ae_title) for one in found}
        refused = events.latest(connection, _REFUSED_SHOWN, kind="association refused")
    rows = []
    for stream in found:
        other = all_streams.in_place_of(stream)
        is_ours = other is None  # lanes, jobs and the switch are those of the one that serves
        own = tuple(seat for seat in seats if is_ours and seat.ae_title == stream.ae_title)
        state, why, remedy = state_of(stream, own, stream.ae_title in switched_off)
        if other is not None:
            why, remedy = all_streams.why_copy(stream), COPY_REMEDY
        executor, is_confined = _run_by(own)
        rows.append(
            StreamRow(
                ae_title=stream.ae_title,
                folder=stream.folder.name,
                name=(stream.info.name if stream.info else "") or stream.folder.name,
                info=stream.info,
                contract=stream.contract,
                state=state,
                why=why,
                remedy=remedy,
                problems=stream.problems,
                served_by=other.folder.name if other else "",
                is_switched_off=is_ours and stream.ae_title in switched_off,
                lanes=own,
                executor=executor,
                grants=grants(stream, executor, is_confined=is_confined),
                limits=limits_of(stream.info, here.settings) if stream.info else None,
                waiting=counts[stream.ae_title][JobState.QUEUED],
                running=counts[stream.ae_title][JobState.RUNNING],
                usual_seconds=usual[stream.ae_title],
            )
        )
    return rows, refused


def _run_by(seats: Sequence[Lane]) -> tuple[str, bool]:
    """Say who runs a stream now, and whether confined: on every worker that does."""
    open_seats = [seat for seat in seats if seat.is_open]
    executor = "process" if any(s.executor == "process" for s in open_seats) else "container"
    confined = all(seat.is_confined for seat in open_seats)
    return (executor, confined) if open_seats else ("", False)


def state_of(
    stream: Stream, seats: Sequence[Lane], is_switched_off: bool
) -> tuple[str, str, str]:
    """Say of a stream: its state, why (a sentence, "" when it serves), and what to do."""
    if not stream.is_good:
        check = f"brookbox streams check {stream.folder.name}"
        return "broken", "It is refused until its folder is mended.", check
    if not stream.is_enabled:
        return "off", "It is switched off in its info.json.", 'set "enabled": 1 in its info.json'
    if is_switched_off:
        return "off", "A person switched it off here; what waits for it waits on.", ""
    if any(seat.is_open for seat in seats):
        return "serving", "", ""
    if not seats:
        why = "No worker serves it just now. Studies are accepted, and their jobs wait."
        return "waiting", why, "brookbox status"
    seat = seats[0]
    return "waiting", f"{seat.why_not} Studies are accepted, and their jobs wait.", seat.remedy
