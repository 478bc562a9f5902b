"""What came and could not be kept as an instance, and why."""

from __future__ import annotations

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from appliance.dicom.statuses import store_status
from appliance.disk import quarantine as kept
from web.frame import page
from web.node import node

quarantine = Blueprint("quarantine", __name__)

_ROWS = 200


@quarantine.get("/quarantine")
def show() -> ResponseReturnValue:
    """Show the list."""
    found = kept.entries(node().layout)
    return page("quarantine.html", entries=found[:_ROWS], total=len(found),
                store_status=store_status)


@quarantine.get("/api/v1/quarantine")
def show_json() -> ResponseReturnValue:
    """Give the list to a program."""
    found = kept.entries(node().layout)
    return jsonify(entries=found[:_ROWS], total=len(found))
