"""An ended job keeps its record, its log and its output; nothing of its input."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from appliance.disk.layout import Layout
from appliance.index import attempts, jobs
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.worker.record import settle_all, settle_unrun
from tests.unit.index.test_moves_of_a_job import NOW, claim, create, new_job


def test_what_a_killed_worker_left_of_a_run_goes_when_its_job_has_ended(
    db: Database, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "data")
    layout.make()
    job_id = create(db, new_job())
    folder = layout.job(job_id)
    for place in ("INPUT", "OUTPUT", "magickbox/INPUT", "home", "tmp", "told"):
        (folder.path / place).mkdir(parents=True)
        (folder.path / place / "file").write_text("of a patient")
    job = claim(db)
    assert job is not None and settle_all(db, layout) == 0
    with db.write() as connection:
        attempts.finish(connection, job, Finish("failed"), NOW)
    assert settle_all(db, layout) == 1
    assert sorted(path.name for path in folder.path.iterdir()) == ["OUTPUT", "job.json"]
    assert json.loads(folder.record.read_text())["state"] == "failed"
    (folder.path / "home").mkdir()  # of an attempt that came to its end too late
    assert settle_all(db, layout) == 1
    assert settle_all(db, layout) == 0


def test_a_job_that_was_cancelled_while_it_waited_has_its_record(
    db: Database, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "data")
    layout.make()
    job_id = create(db, new_job())
    assert settle_unrun(db, layout, NOW) == 0
    jobs.cancel(db, job_id, "Ann", NOW)
    assert settle_unrun(db, layout, NOW + timedelta(days=1)) == 0  # the housekeeper had it
    assert settle_unrun(db, layout, NOW) == 1
    record = json.loads(layout.job(job_id).record.read_text())
    assert (record["state"], record["cancelled_by"]) == ("cancelled", "Ann")
    assert settle_unrun(db, layout, NOW) == settle_all(db, layout) == 0
