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
    return page("activity.html", events=found, kind=request.args.get("kind", ""), before=before)


@activity.get("/api/v1/events")
def show_json() -> ResponseReturnValue:
    """Give the newest events to a program."""
    return jsonify(events=_asked())


def _asked() -> list[Event]:
    before = request.args.get("before", "0")
    if not before.isdecimal() or len(before) > 18:
        raise BadRequest("before must be the number of an event.")
    kind = request.args.get("kind", "")[:48]
    with node().db.read() as connection:
        return events.latest(connection, _ROWS, kind=kind, before=int(before))
