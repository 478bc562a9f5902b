"""Who did what: the newest events of the node."""

from __future__ import annotations

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from appliance.index import events
from appliance.index.events import Event
from web.frame import page
from web.node import node

activity = Blueprint("activity", __name__)

_ROWS = 100


@activity.get("/activity")
def show() -> ResponseReturnValue:
    """Show the newest events."""
    found = _asked()
    before = found[-1].id if len(found) == _ROWS else None
    kind, job_id = request.args.get("kind", ""), request.args.get("job", "")
    return page("activity.html", events=found, kind=kind, job_id=job_id, before=before)


@activity.get("/api/v1/events")
def show_json() -> ResponseReturnValue:
    """Give the newest events to a program."""
    return jsonify(events=_asked())


def _asked() -> list[Event]:
    before = _number("before", "an event") or 0
    kind, job_id = request.args.get("kind", "")[:48], _number("job", "a job")
    with node().db.read() as connection:
        return events.latest(connection, _ROWS, kind=kind, job_id=job_id, before=before)


def _number(name: str, of_what: str) -> int | None:
    """Read a number out of the address; None when it is not there."""
    text = request.args.get(name, "")
    if text and (not text.isdecimal() or len(text) > 18):
        raise BadRequest(f"{name} must be the number of {of_what}.")
    return int(text) if text else None
