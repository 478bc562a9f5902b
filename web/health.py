"""What machines ask: is the web alive, and the node's figures."""

from __future__ import annotations

from flask import Blueprint, Response

from appliance.index import beats
from web.node import node

health = Blueprint("health", __name__)


@health.get("/health")
def alive() -> Response:
    """Say ok when the index answers; IndexUnavailable becomes a 503."""
    with node().db.read() as connection:
        beats.all_beats(connection)
    return Response("ok\n", mimetype="text/plain")


@health.get("/metrics")
def metrics() -> Response:
    """Give the figures as Prometheus reads them."""
    from appliance.metrics import exposition  # when used: not every node is scraped

    here = node()
    return Response(exposition.render(here.settings, here.db), content_type=exposition.CONTENT_TYPE)
