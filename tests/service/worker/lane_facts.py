"""What tests ask of lanes and of the jobs that ran in them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

from appliance.index import lanes
from appliance.index.jobs import Job
from tests.kit.bench import Bench
from tests.kit.waiting import wait_for


def served(bench: Bench, *ae_titles: str) -> None:
    """Wait until lanes of these streams are open."""

    def open_lanes() -> bool:
        with bench.db.read() as connection:
            found = lanes.lanes_since(connection, datetime.min.replace(tzinfo=UTC, year=2000))
        return set(ae_titles) <= {lane.ae_title for lane in found if lane.is_open}

    wait_for(open_lanes, f"lanes of {ae_titles}", 20)


def in_order_of_start(found: list[Job]) -> list[int]:
    return [job.id for job in sorted(found, key=lambda job: job.started_at or job.created_at)]


def overlaps(found: list[Job]) -> bool:
    spans = sorted((job.started_at, job.ended_at) for job in found)
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))  # type: ignore[operator]


def open_gates(bench: Bench) -> None:
    for folder in (bench.home / "streams").iterdir():
        (folder / "gate").touch()
