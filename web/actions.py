"""What a person may do: cancel, retry, run again, send anyway, send again, switch a stream.

Each is a POST form and, under /api/v1, a POST with JSON; both do the same and
leave one event that says who did it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, abort, g, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import BadRequest

from appliance import bells, logs
from appliance.errors import JobError, NotFound
from appliance.index import arrival_list, deliveries, events, jobs, lanes
from appliance.index.states import JobState
from web.frame import local_path
from web.node import node

actions = Blueprint("actions", __name__)

# What was done, in words, and the job or delivery to look at then.
Done = tuple[str, dict[str, Any]]


@actions.post("/jobs/<int:job_id>/<any(cancel,retry,again,release):action>")
def act_on_job(job_id: int, action: str) -> ResponseReturnValue:
    """Do it, and show the job."""
    _, facts = _on_job(job_id, action)
    return redirect(url_for("job.show", job_id=facts["job_id"]), 303)


@actions.post("/api/v1/jobs/<int:job_id>/<any(cancel,retry,again,release):action>")
def act_on_job_json(job_id: int, action: str) -> ResponseReturnValue:
    """Do it for a program."""
    return _answer(_on_job(job_id, action))


@actions.post("/arrivals/<int:arrival_id>/run")
def run_arrival(arrival_id: int) -> ResponseReturnValue:
    """Run the job again that an arrival was found identical to, and show the new one."""
    _, facts = _run_arrival(arrival_id)
    return redirect(url_for("job.show", job_id=facts["job_id"]), 303)


@actions.post("/api/v1/arrivals/<int:arrival_id>/run")
def run_arrival_json(arrival_id: int) -> ResponseReturnValue:
    """Do it for a program."""
    return _answer(_run_arrival(arrival_id))


@actions.post("/deliveries/<int:delivery_id>/resend")
def resend(delivery_id: int) -> ResponseReturnValue:
    """Send what failed again, or all of it, and go back to where it was asked."""
    _resend(delivery_id, all_of_it=request.form.get("what") == "all")
    here = url_for("deliveries.show", delivery_id=delivery_id)
    return redirect(local_path(request.form.get("next") or here), 303)


@actions.post("/api/v1/deliveries/<int:delivery_id>/resend")
def resend_json(delivery_id: int) -> ResponseReturnValue:
    """Do it for a program: `{"all": true}` sends all of it."""
    return _answer(_resend(delivery_id, all_of_it=_json().get("all") is True))


@actions.post("/streams/switch")
def switch() -> ResponseReturnValue:
    """Switch a stream off or on, and show the streams."""
    _switch(request.form.get("ae_title", ""), request.form.get("to", ""))
    return redirect(url_for("streams.list_streams"), 303)


@actions.post("/api/v1/streams/switch")
def switch_json() -> ResponseReturnValue:
    """Do it for a program: `{"ae_title": "MONTAGE", "to": "off"}`."""
    asked = _json()
    return _answer(_switch(str(asked.get("ae_title", "")), str(asked.get("to", ""))))


def _on_job(job_id: int, action: str) -> Done:
    if job_id >= 2**63:
        abort(404)
    doing: dict[str, Callable[[int], Done]] = {
        "cancel": _cancel, "retry": _retry, "again": _again, "release": _release,
    }
    return doing[action](job_id)


def _cancel(job_id: int) -> Done:
    state = jobs.cancel(node().db, job_id, g.who, g.now)
    if state == JobState.RUNNING:
        _ring("worker")
        return _note("job cancelled", f"{g.who} asked to cancel job {job_id}.", job_id)
    return _note("job cancelled", f"{g.who} cancelled job {job_id}.", job_id)


def _retry(job_id: int) -> Done:
    jobs.retry(node().db, job_id, g.now)
    _ring("dispatcher")
    return _note("job retried", f"{g.who} asked to retry job {job_id}.", job_id)


def _again(job_id: int) -> Done:
    # Imported when used: it brings pydicom and numpy, 40 MB that an idle web need not hold.
    from appliance.dispatcher.again import run_again

    new = run_again(node().db, job_id, g.who, g.now)
    _ring("dispatcher")
    return f"Job {new.id} was made of the input of job {job_id}.", {"job_id": new.id}


def _release(job_id: int) -> Done:
    jobs.release(node().db, job_id)
    _ring("router")
    sentence = f"{g.who} let the results of job {job_id} be sent."
    return _note("job released", sentence, job_id)


def _run_arrival(arrival_id: int) -> Done:
    with node().db.read() as connection:
        found = arrival_list.get(connection, arrival_id) if arrival_id < 2**63 else None
    if found is None:
        raise NotFound(f"there is no arrival {arrival_id}", remedy="look at Arrivals")
    if found.job_id is None:
        raise JobError(
            f"arrival {arrival_id} belongs to no job that could run again: {found.note}",
            remedy=f"send the study to {found.called_ae_title} again",
        )
    return _again(found.job_id)


def _resend(delivery_id: int, *, all_of_it: bool) -> Done:
    if delivery_id >= 2**63:
        abort(404)
    here = node()
    deliveries.resend(here.db, delivery_id, g.now, all_instances=all_of_it)
    _ring("router")
    with here.db.read() as connection:
        job_id = deliveries.get(connection, delivery_id).job_id
    what = "all of" if all_of_it else "what failed of"
    sentence = f"{g.who} asked to send {what} delivery {delivery_id} again."
    done, facts = _note("delivery resent", sentence, job_id)
    return done, {**facts, "delivery_id": delivery_id}


def _switch(ae_title: str, to: str) -> Done:
    here = node()
    if to not in ("on", "off"):
        raise BadRequest("A stream can be switched on or off.")
    with here.db.read() as connection:
        is_off = ae_title in lanes.switched_off(connection)
    if here.streams().find(ae_title) is None and not (to == "on" and is_off):
        raise NotFound("there is no stream of this AE title", remedy="look at Streams")
    if to == "off":
        lanes.switch_off(here.db, ae_title, g.who, g.now)
    else:
        lanes.switch_on(here.db, ae_title)
        _ring("dispatcher")
    sentence = f"{g.who} switched stream {ae_title} {to}."
    return _note(f"stream switched {to}", sentence, None, ae_title=ae_title)


def _note(kind: str, sentence: str, job_id: int | None, **facts: object) -> Done:
    here = node()
    with here.db.write() as connection:
        study_uid = jobs.get(connection, job_id).study_uid if job_id is not None else ""
        events.append(
            connection, kind, sentence, g.now,
            who=g.who, study_uid=study_uid, job_id=job_id, **facts,
        )
    logs.get().info(kind, job=job_id, who=g.who, **facts)
    return sentence, ({"job_id": job_id} if job_id is not None else {}) | dict(facts)


def _ring(bell: str) -> None:
    bells.ring(node().layout.run, bell)


def _json() -> dict[str, Any]:
    found = request.get_json(silent=True)
    return found if isinstance(found, dict) else {}


def _answer(done: Done) -> ResponseReturnValue:
    sentence, facts = done
    return jsonify(done=sentence, **facts)
