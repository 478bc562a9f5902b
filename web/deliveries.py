"""What was sent where, what waits to be sent, and what was given up."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, abort, jsonify, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from appliance.dicom.statuses import store_status
from appliance.index import deliveries as index_deliveries
from appliance.index import figures
from appliance.index import jobs as index_jobs
from appliance.index.deliveries import Delivery, Sent
from appliance.index.jobs import Job
from appliance.index.states import DeliveryState
from web.frame import page
from web.node import node

deliveries = Blueprint("deliveries", __name__)

TABS = (
    DeliveryState.GAVE_UP, DeliveryState.DUE, DeliveryState.SENDING, DeliveryState.DELIVERED,
)
_ROWS = 200


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """One delivery with each of its instances, and the job it belongs to."""

    delivery: Delivery
    job: Job
    instances: list[Sent]

    @property
    def counts(self) -> dict[str, int]:
        """Count the instances by what became of them."""
        found = {"sent": 0, "warning": 0, "failed": 0, "waiting": 0}
        for one in self.instances:
            found[one.state] = found.get(one.state, 0) + 1
        return found

    @property
    def can_resend(self) -> bool:
        """Say whether a person may ask to send it again."""
        return self.delivery.state != DeliveryState.SENDING


@deliveries.get("/deliveries")
def list_deliveries() -> ResponseReturnValue:
    """Show the newest deliveries, by state."""
    state = _asked_state()
    with node().db.read() as connection:
        found = index_deliveries.deliveries_in(connection, [state] if state else [], _ROWS)
        counts = figures.count_deliveries(connection)
    tabs = [("", url_for("deliveries.list_deliveries"), sum(counts.values()))]
    tabs += [(s, url_for("deliveries.list_deliveries", state=s), counts[s]) for s in TABS]
    return page("deliveries.html", deliveries=found, tabs_=tabs, state_=state, most=_ROWS)


@deliveries.get("/api/v1/deliveries")
def list_deliveries_json() -> ResponseReturnValue:
    """Give the newest deliveries to a program."""
    state = _asked_state()
    with node().db.read() as connection:
        found = index_deliveries.deliveries_in(connection, [state] if state else [], _ROWS)
        counts = figures.count_deliveries(connection)
    return jsonify(deliveries=found, counts=counts)


@deliveries.get("/deliveries/<int:delivery_id>")
def show(delivery_id: int) -> ResponseReturnValue:
    """Show one delivery."""
    return page("delivery.html", page=_read(delivery_id), store_status=store_status)


@deliveries.get("/api/v1/deliveries/<int:delivery_id>")
def show_json(delivery_id: int) -> ResponseReturnValue:
    """Give one delivery to a program."""
    return jsonify(_read(delivery_id))


def _read(delivery_id: int) -> DeliveryPage:
    if delivery_id >= 2**63:
        abort(404)
    with node().db.read() as connection:
        found = index_deliveries.get(connection, delivery_id)
        return DeliveryPage(
            delivery=found,
            job=index_jobs.get(connection, found.job_id),
            instances=index_deliveries.instances_of(connection, delivery_id),
        )


def _asked_state() -> str:
    state = request.args.get("state", "")
    if state and state not in set(DeliveryState):
        raise BadRequest(f"{state} is no state of a delivery.")
    return state
