"""What came and is not kept as an instance, and why: the list."""

from __future__ import annotations

import json

from flask import Blueprint, jsonify, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from appliance.dicom.statuses import store_status
from appliance.disk.quarantine import Kind
from appliance.disk.quarantine_list import Page
from appliance.index import events
from web.frame import page
from web.node import node

quarantine = Blueprint("quarantine", __name__)

_ROWS = 100
_LOOKED_THROUGH = 50  # of the newest events, for the one that a person just caused
# What `appliance.intake.again` calls its events; written out, since it brings pydicom.
_DONE = ("quarantined file kept", "quarantined files removed")


@quarantine.get("/quarantine")
def show() -> ResponseReturnValue:
    """Show the list, newest first."""
    kind, found = _asked()
    counts = node().quarantine.counts()
    tabs = [("", url_for("quarantine.show"), sum(counts.values()))]
    tabs += [(str(k), url_for("quarantine.show", kind=str(k)), n) for k, n in counts.items()]
    return page(
        "quarantine.html", entries=found.entries, older=found.older, kind=kind, tabs_=tabs,
        is_first="before" not in request.args, done=_done(), store_status=store_status,
    )  # fmt: skip


@quarantine.get("/api/v1/quarantine")
def show_json() -> ResponseReturnValue:
    """Give the list to a program, as many at once as a page shows."""
    _, found = _asked()
    counts = node().quarantine.counts()
    total = sum(counts.values())
    return jsonify(entries=found.entries, older=found.older, counts=counts, total=total)


def _asked() -> tuple[str, Page]:
    kind, before = request.args.get("kind", ""), request.args.get("before", "")[:64]
    if kind and kind not in set(Kind):
        raise BadRequest(f"{kind} is no kind of what is in quarantine.")
    return kind, node().quarantine.page(Kind(kind) if kind else None, before, _ROWS)


def _done() -> str:
    """Say what became of an entry that a person has just had tried again or removed."""
    id = request.args.get("done", "")
    if not id:
        return ""
    with node().db.read() as connection:
        lately = events.latest(connection, _LOOKED_THROUGH)
    for event in lately:
        about = json.loads(event.facts).get("quarantine")
        if event.kind in _DONE and (about == id or (isinstance(about, list) and id in about)):
            return event.sentence
    return ""
