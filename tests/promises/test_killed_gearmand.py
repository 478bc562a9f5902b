"""kill -9 of gearmand with ten thousand jobs waiting, FT-15: the index knows them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from appliance.errors import QueueUnavailable
from appliance.index import schema as t
from appliance.queue import depth
from tests.kit import dicom
from tests.kit.bench import Bench
from tests.kit.gearmand import Gearmand
from tests.kit.scripts import COPY_ONE
from tests.kit.waiting import wait_for

MANY = 10_000
# Job 1 waits for the gate, the others do not.
GATED = (
    COPY_ONE
    + """
make()
gate = pathlib.Path(__file__).parent / "gate"
while job["job"] == 1 and not gate.exists():
    time.sleep(0.05)
"""
)


@pytest.fixture
def bench(tmp_path: Path, gearmand: Gearmand) -> Iterator[Bench]:
    one = Bench(tmp_path, gearmand.server)
    config = yaml.safe_load(one.file.read_text())
    config["queue"]["ring_again_seconds"] = 5
    one.file.write_text(yaml.safe_dump(config))
    yield one
    one.stop()


def rings(gearmand: Gearmand) -> int:
    """Say how many rings gearmand holds, those that a lane works on among them."""
    try:
        [one] = depth.look([gearmand.server])
    except QueueUnavailable:
        return -1
    return sum(found.queued + found.running for found in one.depths)


def fill(bench: Bench, count: int) -> None:
    """Queue more jobs over the study of the first one, by rows alone."""
    with bench.db.write() as connection:
        first = connection.execute(sa.select(t.jobs)).mappings().one()
        uid = connection.scalar(sa.select(t.job_inputs.c.sop_instance_uid))
        ids = range(first["id"] + 1, first["id"] + count + 1)
        same: dict[str, Any] = {**first, "state": "queued", "worker": "", "lease_until": None}
        same |= {"attempt": 0, "tries": 0, "created_at": datetime.now(UTC), "started_at": None}
        rows = [
            {**same, "id": one, "input_digest": f"d{one}", "result_seed": f"s{one}"} for one in ids
        ]
        connection.execute(sa.insert(t.jobs), rows)
        inputs = [{"job_id": one, "sop_instance_uid": uid} for one in ids]
        connection.execute(sa.insert(t.job_inputs), inputs)


def states(bench: Bench) -> Counter[str]:
    with bench.db.read() as connection:
        return Counter(connection.scalars(sa.select(t.jobs.c.state)))


def test_ft_15_gearmand_killed_with_ten_thousand_jobs_waiting_and_one_running(
    bench: Bench, gearmand: Gearmand
) -> None:
    gate = bench.stream("GATED", GATED) / "gate"
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "GATED")
    bench.wait_for_jobs(1, "running")
    fill(bench, MANY)
    bench.send_study(dicom.ct_study(1), "GATED")  # its bell has the dispatcher look at all of them
    wait_for(lambda: rings(gearmand) >= MANY, "all of them were rung", 90)
    gearmand.kill()
    assert rings(gearmand) == -1
    gate.touch()
    bench.wait_for_jobs(1, "succeeded")  # what ran ends, and its result is taken
    assert bench.jobs("succeeded")[0].attempt == 1
    gearmand.start()
    wait_for(lambda: rings(gearmand) >= states(bench)["queued"], "all of them were rung again", 90)
    bench.wait_for_jobs(4, "succeeded")
    done = bench.jobs("succeeded", "running")
    assert [job.id for job in done] == list(range(1, len(done) + 1)), "in their order"
    assert {job.attempt for job in done} == {1}
    assert all(len(bench.results(job.id)) == 1 for job in bench.jobs("succeeded"))
    found = states(bench)
    assert set(found) <= {"queued", "running", "succeeded"}
    assert found.total() == MANY + 2
