"""Why a job waits, as its row says."""

from __future__ import annotations

from appliance import ids
from appliance.dispatcher import reconcile
from appliance.index import lanes
from appliance.index.database import Database
from appliance.index.lanes import Lane
from appliance.streams.catalog import Streams
from tests.unit.index.test_moves_of_a_job import NOW, create, get, new_job


def test_a_lane_that_outlives_its_stream_does_not_hide_that_it_is_gone(db: Database) -> None:
    job, worker = create(db, new_job()), str(ids.this_process())
    seat = Lane(f"{worker} 1", worker, "ECHO", True, "", "", "process", None, NOW)
    lanes.beat(db, worker, [seat])
    reconcile.tell_why_jobs_wait(db, Streams(), NOW)
    reason = get(db, job).wait_reason
    assert reason.startswith("No stream has the AE title ECHO any more: put its folder back")
