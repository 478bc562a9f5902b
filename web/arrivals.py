"""What came in lately, what it became, and why nothing came of it."""

from __future__ import annotations

from flask import Blueprint, g, jsonify
from flask.typing import ResponseReturnValue

from web.arriving import arriving_now, closed_lately
from web.frame import page
from web.node import node

arrivals = Blueprint("arrivals", __name__)

_ROWS = 100


@arrivals.get("/arrivals")
def list_arrivals() -> ResponseReturnValue:
    """Show them."""
    here = node()
    return page("arrivals.html", arriving=arriving_now(here, g.now),
                closed=closed_lately(here, _ROWS), most=_ROWS)


@arrivals.get("/api/v1/arrivals")
def list_arrivals_json() -> ResponseReturnValue:
    """Give them to a program."""
    here = node()
    return jsonify(open=arriving_now(here, g.now), closed=closed_lately(here, _ROWS))
