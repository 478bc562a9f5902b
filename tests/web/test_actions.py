"""What a person may do: each act does its one thing, rings, and leaves an event that says who."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from appliance.bells import Bell
from appliance.index import deliveries, events, jobs, lanes
from appliance.index.jobs import Job
from tests.kit import waiting
from tests.web.day import Day
from tests.web.test_pages import form_token


def press(client: FlaskClient, path: str, **fields: str) -> TestResponse:
    """Press a button of a page."""
    data = {"token": form_token(client), **fields}
    return client.post(path, data=data, headers={"Sec-Fetch-Site": "same-origin"})


def job_now(day: Day, job_id: int) -> Job:
    """Look a job up."""
    with day.db.read() as connection:
        return jobs.get(connection, job_id)


def last_event(day: Day) -> str:
    """The newest event's sentence."""
    with day.db.read() as connection:
        return events.latest(connection, 1)[0].sentence


def test_a_queued_job_is_cancelled_at_once(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    answer = press(client, f"/jobs/{ids.queued}/cancel")
    assert answer.status_code == 303 and answer.headers["Location"] == f"/jobs/{ids.queued}"
    job = job_now(day, ids.queued)
    assert job.state == "cancelled"
    assert job.reason == "It was cancelled by a person in the web (127.0.0.1)."
    assert job.cancelled_by == "a person in the web (127.0.0.1)"
    assert last_event(day) == f"a person in the web (127.0.0.1) cancelled job {ids.queued}."


def test_a_running_job_is_asked_to_stop_and_its_worker_rung(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    bell = Bell(day.layout.run, "worker")
    press(client, f"/jobs/{ids.running}/cancel")
    assert bell.wait(5)
    bell.close()
    assert job_now(day, ids.running).cancel_requested
    shown = client.get(f"/jobs/{ids.running}").get_data(as_text=True)
    assert "It is being cancelled by a person in the web (127.0.0.1)." in shown


def test_a_failed_job_is_retried(client: FlaskClient, ids: SimpleNamespace, day: Day) -> None:
    bell = Bell(day.layout.run, "dispatcher")
    press(client, f"/jobs/{ids.failed}/retry")
    assert bell.wait(5)
    bell.close()
    assert job_now(day, ids.failed).state == "queued"


def test_a_good_job_runs_again_as_a_new_one(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    answer = press(client, f"/jobs/{ids.succeeded}/again")
    new = int(answer.headers["Location"].rsplit("/", 1)[1])
    assert job_now(day, new).run_again_of == ids.succeeded


def test_what_was_identical_runs_again(client: FlaskClient, ids: SimpleNamespace, day: Day) -> None:
    answer = press(client, f"/arrivals/{ids.identical}/run")
    new = int(answer.headers["Location"].rsplit("/", 1)[1])
    assert job_now(day, new).run_again_of == ids.succeeded
    assert press(client, f"/arrivals/{ids.arrival}/run").status_code == 409
    assert press(client, "/arrivals/4711/run").status_code == 404


def test_a_held_job_is_released_and_the_router_rung(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    bell = Bell(day.layout.run, "router")
    press(client, f"/jobs/{ids.held}/release")
    assert bell.wait(5)
    bell.close()
    assert not job_now(day, ids.held).is_held
    assert press(client, f"/jobs/{ids.held}/release").status_code == 409


@pytest.mark.parametrize(
    ("name", "action"),
    [("succeeded", "cancel"), ("running", "retry"), ("running", "again"), ("failed", "release")],
)
def test_what_a_job_cannot_do_is_a_sentence(
    client: FlaskClient, ids: SimpleNamespace, name: str, action: str
) -> None:
    answer = press(client, f"/jobs/{getattr(ids, name)}/{action}")
    assert answer.status_code == 409
    assert "What to do:" in answer.get_data(as_text=True)
    assert press(client, f"/jobs/4711/{action}").status_code == 404


def test_only_what_failed_is_sent_again_unless_all_is_asked_for(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    def states() -> list[str]:
        with day.db.read() as connection:
            return sorted(s.state for s in deliveries.instances_of(connection, ids.gave_up))

    answer = press(client, f"/deliveries/{ids.gave_up}/resend", what="failed", next="/jobs/5")
    assert answer.headers["Location"] == "/jobs/5"
    assert states() == ["sent", "waiting"]
    press(client, f"/deliveries/{ids.gave_up}/resend", what="all")
    assert states() == ["waiting", "waiting"]


def test_a_stream_is_switched_off_and_on(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    def off() -> set[str]:
        with day.db.read() as connection:
            return lanes.switched_off(connection)

    waiting.wait_for(
        lambda: "Switch off" in client.get("/streams").get_data(as_text=True), "streams are there"
    )
    press(client, "/streams/switch", ae_title="MONTAGE", to="off")
    assert off() == {"MONTAGE"}
    assert "Switch on" in client.get("/streams").get_data(as_text=True)
    press(client, "/streams/switch", ae_title="MONTAGE", to="on")
    assert off() == set()
    assert press(client, "/streams/switch", ae_title="NONE", to="off").status_code == 404
    assert press(client, "/streams/switch", ae_title="MONTAGE", to="?").status_code == 400


def test_programs_do_the_same_with_json(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    done = client.post(f"/api/v1/jobs/{ids.failed}/retry", json={}).get_json()
    assert done["job_id"] == ids.failed
    path = f"/api/v1/deliveries/{ids.gave_up}/resend"
    assert client.post(path, json={"all": True}).get_json()["delivery_id"] == ids.gave_up
    refused = client.post(f"/api/v1/jobs/{ids.held}/retry", json={})
    assert refused.status_code == 409
    assert refused.get_json()["remedy"].startswith("to make a new job")
