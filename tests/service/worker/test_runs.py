"""The worker as a process of its own: order, lanes, kills, cancel, stop; streams are processes."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from appliance import bells
from appliance.index import job_list, jobs, lanes
from appliance.index.states import Ending
from appliance.worker.plain_process import ProcessExecutor
from tests.kit import dicom
from tests.kit.bench import Bench
from tests.kit.scripts import COPY_ONE, HELD, QUICK, SLEEP
from tests.kit.waiting import wait_for
from tests.service.worker.lane_facts import in_order_of_start, open_gates, overlaps, served


def test_a_study_runs_and_its_result_is_kept(bench: Bench) -> None:
    bench.stream("QUICK", QUICK, settings={"a": 1})
    bench.start("dispatcher")
    bench.start("worker")
    served(bench, "QUICK")
    study = dicom.ct_study(3)
    bench.send_study(study, "QUICK")
    [job] = bench.wait_for_jobs(1)
    assert (job.state, job.reason, job.exit_code, job.executor) == ("succeeded", "", 0, "process")
    [result] = bench.results(job.id)
    assert (bench.layout.root / result.path).is_file()
    assert result.study_uid == study[0].StudyInstanceUID
    folder = bench.layout.job(job.id)
    wait_for(lambda: not folder.input.exists(), "INPUT is removed")
    told = json.loads(folder.info.read_text())
    assert told["job"] == job.id
    assert told["calling_ae_title"] == "CT1"
    assert told["study_uid"] == job.study_uid
    assert told["stream"]["settings"] == {"a": 1}
    wait_for(folder.record.exists, "the record is written")
    record = json.loads(folder.record.read_text())
    assert (record["id"], record["state"]) == (job.id, "succeeded")
    assert record["results"] == [result.sop_instance_uid]
    assert set(record["inputs"]) == {ds.SOPInstanceUID for ds in study}
    assert [step["name"] for step in record["steps"]] == ["prepare", "run", "import results"]
    assert "started" in folder.log.read_text()


def test_nothing_between_complete_and_the_run_waits_for_the_next_look(bench: Bench) -> None:
    bench.stream("QUICK", QUICK)
    bench.start("dispatcher")
    bench.start("worker")
    served(bench, "QUICK")
    took = []
    for number in range(1, 5):
        bench.send_study(dicom.ct_study(2), "QUICK")
        job = bench.wait_for_jobs(number)[-1]
        with bench.db.read() as connection:
            [run] = [one for one in job_list.steps_of(connection, job.id) if one.name == "run"]
        took.append((run.started_at - job.last_instance_at).total_seconds() - 0.5)
    print("from complete to run:", ", ".join(f"{s * 1000:.0f} ms" for s in took))
    assert min(took) >= 0
    # The worker looks by itself every few seconds only; how fast it is, the benchmark says.
    assert min(took) < 2


def test_five_studies_run_one_at_a_time_in_the_order_they_came(bench: Bench) -> None:
    bench.stream("SLEEP", SLEEP, settings={"seconds": 0.3})
    bench.start("dispatcher")
    for number in range(5):
        bench.send_study(dicom.ct_study(1), "SLEEP")
        bench.wait_for_jobs(number + 1, "queued")
    bench.start("worker")
    done = bench.wait_for_jobs(5, "succeeded")
    assert in_order_of_start(done) == [1, 2, 3, 4, 5]
    assert not overlaps(done)


def test_two_streams_run_side_by_side_and_two_workers_keep_to_one_lane(bench: Bench) -> None:
    bench.stream("LEFT", HELD)
    bench.stream("RIGHT", HELD)
    bench.start("dispatcher")
    bench.start("worker")
    bench.start("worker")
    served(bench, "LEFT", "RIGHT")
    for ae_title in ("LEFT", "RIGHT"):
        for _ in range(3):
            bench.send_study(dicom.ct_study(1), ae_title)
    running = bench.wait_for_jobs(2, "running")
    bench.wait_for_jobs(4, "queued")
    time.sleep(1.5)  # long enough for a wrong claim: every waiting job is rung again each second
    assert {job.ae_title for job in bench.jobs("running")} == {"LEFT", "RIGHT"}
    assert len(running) == 2
    open_gates(bench)
    done = bench.wait_for_jobs(6, "succeeded")
    assert not overlaps([job for job in done if job.ae_title == "LEFT"])
    assert not overlaps([job for job in done if job.ae_title == "RIGHT"])


def test_two_lanes_run_two_jobs_of_one_stream(bench: Bench) -> None:
    bench.stream("WIDE", HELD, lanes=2)
    bench.start("dispatcher")
    bench.start("worker")
    for _ in range(3):
        bench.send_study(dicom.ct_study(1), "WIDE")
    bench.wait_for_jobs(2, "running")
    assert len(bench.wait_for_jobs(1, "queued")) == 1
    open_gates(bench)
    bench.wait_for_jobs(3, "succeeded")


def test_high_priority_overtakes_what_waits_and_not_what_runs(bench: Bench) -> None:
    bench.stream("MIXED", HELD)
    bench.start("dispatcher")
    bench.start("worker")
    for number in range(2):
        bench.send_study(dicom.ct_study(1), "MIXED")
        wait_for(lambda n=number: len(bench.jobs()) == n + 1, "the study is a job", 10)
    bench.wait_for_jobs(1, "running")
    bench.stream("MIXED", HELD, priority="high")
    time.sleep(2)  # a folder counts once it has settled
    bench.send_study(dicom.ct_study(1), "MIXED")
    wait_for(lambda: len(bench.jobs()) == 3, "the urgent study is a job", 10)
    open_gates(bench)
    assert in_order_of_start(bench.wait_for_jobs(3, "succeeded")) == [1, 3, 2]


def test_a_person_cancels_a_running_job(bench: Bench) -> None:
    bench.stream("HELD", HELD)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "HELD")
    [job] = bench.wait_for_jobs(1, "running")
    wait_for(lambda: bench.layout.job(job.id).log.exists(), "it runs", 20)
    jobs.cancel(bench.db, job.id, "anna", datetime.now(UTC))
    bells.ring(bench.layout.run, "worker")
    began = time.monotonic()
    [job] = bench.wait_for_jobs(1, "cancelled", seconds=15)
    print(f"cancelled after {time.monotonic() - began:.1f} s")
    assert job.reason == "It was cancelled by anna."
    record = bench.layout.job(job.id).record
    wait_for(record.exists, "the record is written, after the row")
    assert json.loads(record.read_text())["cancelled_by"] == "anna"
    assert bench.results(job.id) == []


def test_an_incomplete_study_is_held_for_a_person(bench: Bench) -> None:
    bench.stream("QUICK", QUICK)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "QUICK", Ending.ABORTED)
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert job.incomplete
    assert job.is_held


PROGRESS = (
    COPY_ONE
    + """
out = pathlib.Path(os.environ["BROOKBOX_OUTPUT"])
(out / "progress.json").write_text(json.dumps({"done": 3, "of": 12, "step": "segmenting"}))
gate = pathlib.Path(__file__).parent / "gate"
while not gate.exists():
    time.sleep(0.05)
make()
(out / "notes.txt").write_text("kept for download")
(out / "proc.json").write_text(json.dumps([{"success": "partial", "message": "half of it"}]))
"""
)


def test_progress_is_seen_while_it_runs_and_proc_json_tells_the_outcome(bench: Bench) -> None:
    bench.stream("TELLS", PROGRESS)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "TELLS")
    wait_for(lambda: bench.jobs() and bench.jobs()[0].progress_done == 3, "the progress", 20)
    assert bench.jobs()[0].progress_step == "segmenting"
    assert bench.jobs()[0].progress_of == 12
    open_gates(bench)
    [job] = bench.wait_for_jobs(1, "partial")
    assert job.message == "half of it"
    assert job.result_count == 1
    assert "1 other file is kept" in job.reason


def test_a_stream_dropped_in_edited_and_removed_is_followed(bench: Bench) -> None:
    def lane() -> lanes.Lane | None:
        with bench.db.read() as connection:
            found = lanes.lanes_since(connection, datetime.min.replace(tzinfo=UTC, year=2000))
        return next((one for one in found if one.ae_title == "LATER"), None)

    bench.start("dispatcher")
    bench.start("worker")
    folder = bench.stream("LATER", QUICK)
    began = time.monotonic()
    served(bench, "LATER")
    assert time.monotonic() - began < 30
    bench.send_study(dicom.ct_study(1), "LATER")
    bench.wait_for_jobs(1, "succeeded")
    is_confined = ProcessExecutor(bench.settings).is_confined
    assert (one := lane()) and (one.executor, one.is_confined) == ("process", is_confined)
    bench.stream("LATER", QUICK, enabled=0)
    wait_for(lambda: (one := lane()) and not one.is_open, "the lane is closed", 10)
    assert "switched off" in lane().why_not  # type: ignore[union-attr]
    (folder / "info.json").write_text("{ this is no JSON")
    wait_for(lambda: (one := lane()) is None or "info.json" in one.why_not, "it is told", 10)


def test_a_job_whose_stream_cannot_run_waits_with_the_reason_and_runs_when_it_can(
    bench: Bench,
) -> None:
    bench.stream("WAITS", QUICK, models="weights")
    (bench.home / "streams" / "waits" / "weights").mkdir()
    bench.stream("WAITS", QUICK, trusted=True, gpus=2)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "WAITS")
    wait_for(lambda: bench.jobs() and "GPU" in bench.jobs()[0].wait_reason, "the reason", 20)
    assert bench.jobs()[0].state == "queued"
    bench.stream("WAITS", QUICK)
    [job] = bench.wait_for_jobs(1, "succeeded")
    assert job.wait_reason == ""


def test_a_failing_stream_fails_its_job_and_the_next_job_runs(bench: Bench) -> None:
    script = COPY_ONE + "make()\nsys.exit(3 if job['job'] == 1 else 0)\n"
    bench.stream("FAILS", script)
    bench.start("dispatcher")
    bench.start("worker")
    for _ in range(2):
        bench.send_study(dicom.ct_study(1), "FAILS")
    bench.wait_for_jobs(2)
    first, second = bench.jobs()
    assert (first.state, first.exit_code, first.result_count) == ("failed", 3, 0)
    assert first.reason
    assert first.remedy
    assert bench.results(first.id) == []
    assert (second.state, second.result_count) == ("succeeded", 1)
    jobs.retry(bench.db, first.id, datetime.now(UTC))
    bells.ring(bench.layout.run, "dispatcher")
    wait_for(lambda: bench.jobs()[0].attempt == 2, "it runs again", 20)
