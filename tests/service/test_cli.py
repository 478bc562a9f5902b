"""The command line on a running node: what a person types in the course of a day."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from appliance.streams import served
from tests.kit import dicom, peers
from tests.kit.node import Node
from tests.kit.waiting import free_port, wait_for

BROKEN = {
    "name": "Broken", "AETitle": "BROKEN", "command": ["python3", "run.py"],
    "trusted": True, "quiet_seconds": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("cli"))
    node.home.mkdir(exist_ok=True)
    node.write_settings()
    folder = node.home / "streams" / "broken"
    folder.mkdir()
    (folder / "info.json").write_text(json.dumps(BROKEN))
    (folder / "run.py").write_text("print('it goes wrong now'); raise SystemExit(3)\n")
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def study(node: Node, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A study that went to ECHO, and was worked on."""
    uid = generate_uid()
    made = dicom.ct_study(3, study_uid=uid)
    files = dicom.write_study(made, tmp_path_factory.mktemp("study"))
    assert node.send(files, "ECHO").exit_code == 0
    node.wait_for_jobs(1, "succeeded", ae_title="ECHO")
    return uid


@pytest.fixture(scope="module")
def failed(node: Node, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A job that failed."""
    files = dicom.write_study(dicom.ct_study(1), tmp_path_factory.mktemp("failed"))
    assert node.send(files, "BROKEN").exit_code == 0
    return node.wait_for_jobs(1, "failed", ae_title="BROKEN")[0].id


def test_jobs_are_listed_for_people_and_for_programs(node: Node, study: str) -> None:
    shown = node.cli("jobs", "list", "--stream", "ECHO").stdout
    assert "succeeded" in shown and "ECHO" in shown
    [job] = node.cli_json("jobs", "list", "--study", study)
    assert job["state"] == "succeeded" and job["input_count"] == 3
    assert node.cli("jobs", "list", "--study", "1.2.3").stdout == "No job matches.\n"


def test_no_answer_holds_a_patient(node: Node, study: str) -> None:
    job = node.cli_json("jobs", "list", "--study", study)[0]["id"]
    for words in (
        ["jobs", "list"],
        ["jobs", "show", str(job)],
        ["why", study],
        ["events"],
        ["status"],
    ):
        said = node.cli(*words)
        assert "Seeded" not in said.stdout + said.stderr and "P-SEEDED" not in said.stdout


def test_a_job_is_shown_with_its_steps_and_results(node: Node, study: str) -> None:
    job = node.cli_json("jobs", "list", "--study", study)[0]["id"]
    shown = node.cli("jobs", "show", str(job)).stdout
    assert study in shown and "import results" in shown
    found = node.cli_json("jobs", "show", str(job))
    assert len(found["results"]) == 3 and found["steps"][0]["name"] == "prepare"


def test_the_log_is_printed_as_it_was_written(node: Node, failed: int) -> None:
    assert "it goes wrong now" in node.cli("jobs", "log", str(failed)).stdout
    assert "it goes wrong now" in node.cli("jobs", "log", "--follow", str(failed)).stdout
    found = node.cli_json("jobs", "log", "--follow", str(failed))
    assert found["job"] == failed and found["log"].count("it goes wrong now") == 1


def test_a_failed_job_is_tried_again(node: Node, failed: int) -> None:
    before = node.job(failed).attempt
    assert node.cli("jobs", "retry", str(failed)).stdout == f"Job {failed} is queued again.\n"
    wait_for(lambda: node.job(failed).attempt > before and node.job(failed).ended_at, "it ended")
    assert node.cli_json("events", "--kind", "job retried")[0]["job_id"] == failed
    refused = node.cli("jobs", "cancel", str(failed))
    assert refused.returncode == 1 and "has ended already" in refused.stderr


def test_a_good_job_is_run_again_with_new_results(node: Node, study: str) -> None:
    old = node.cli_json("jobs", "list", "--study", study)[0]["id"]
    refused = node.cli("jobs", "retry", str(old))
    assert refused.returncode == 1 and f"brookbox jobs run-again {old}" in refused.stderr
    new = node.cli_json("jobs", "run-again", str(old))
    assert new["run_again_of"] == old
    wait_for(lambda: node.job(new["id"]).state == "succeeded", "it succeeded", 60)


def test_an_unknown_job_is_named(node: Node) -> None:
    for verb in ("show", "log", "cancel", "retry", "run-again", "release"):
        done = node.cli("jobs", verb, "4711")
        assert done.returncode == 1, verb
        assert done.stderr == "there is no job 4711\ntry: brookbox jobs list\n"


def test_why_tells_the_story_of_a_study(node: Node, study: str) -> None:
    said = node.cli("why", study).stdout
    assert "CT1 at 127.0.0.1 sent 3 instances to ECHO" in said
    assert "It became job" in said and "succeeded at" in said


def test_why_tells_of_a_job_and_of_an_unknown_study(node: Node, failed: int) -> None:
    said = node.cli("why", str(failed)).stdout
    assert "(BROKEN) failed at" in said
    unknown = node.cli("why", "1.2.3.4")
    assert unknown.returncode == 1 and "nothing is known of the study" in unknown.stderr


def test_why_tells_who_was_refused(node: Node, tmp_path: Path) -> None:
    [file] = dicom.write_study(dicom.ct_study(1), tmp_path)
    assert node.send([file], "montage", "LOST1").acknowledged == []
    said = wait_for(
        lambda: "refused" in node.cli("why", "LOST1").stdout and node.cli("why", "LOST1"), ""
    )
    assert "Did you mean MONTAGE?" in said.stdout
    assert "Did you mean MONTAGE?" in node.cli("why", "montage").stdout
    assert "is the stream in" in node.cli("why", "MONTAGE").stdout
    assert "the node itself" in node.cli("why", "BROOKBOX").stdout


def test_deliveries_are_listed_shown_and_sent_again(node: Node, study: str, tmp_path: Path) -> None:
    port = free_port()
    node.route(
        {
            "destinations": {"pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": port}},
            "rules": [{"name": "all", "called": "ECHO", "to": ["pacs"]}],
        }
    )
    wait_for(lambda: "pacs" in node.cli("routing", "show").stdout, "the rule")
    job = node.cli_json("jobs", "list", "--study", study)[-1]["id"]
    node.cli("jobs", "run-again", str(job))
    [one] = wait_for(
        lambda: node.cli_json("deliveries", "list", "--destination", "pacs"), "due", 60
    )
    wait_for(
        lambda: "PACS at 127.0.0.1" in node.cli("deliveries", "show", str(one["id"])).stdout, ""
    )
    assert node.cli("routing", "test", "pacs").returncode == 1
    pacs = peers.Pacs(tmp_path / "pacs", port=port).start()
    try:
        assert node.cli("routing", "test", "pacs").returncode == 0
        # What is due may be sent by itself before anybody asks.
        node.cli("deliveries", "resend", str(one["id"]))
        node.wait_for_deliveries(1, "delivered")
        refused = node.cli("deliveries", "resend", str(one["id"]))
        assert refused.returncode == 1 and "resend --all" in refused.stderr
        assert node.cli("deliveries", "resend", "--all", str(one["id"])).returncode == 0
        node.wait_for_deliveries(1, "delivered")
        assert len(pacs.files()) == 3
    finally:
        pacs.stop()
    sent = node.cli_json("deliveries", "show", str(one["id"]))["instances"]
    assert {part["status"] for part in sent} == {0}


def test_files_are_sent_with_a_bar(node: Node, tmp_path: Path) -> None:
    dicom.write_study(dicom.ct_study(4), tmp_path)
    (tmp_path / "notes.txt").write_text("no DICOM")
    to = f"BROOKBOX@127.0.0.1:{node.port}"
    done = node.cli("send", "store", to, str(tmp_path))
    assert "4 of 5 files were sent" in done.stdout and "notes.txt" in done.stderr
    assert done.returncode == 1
    (tmp_path / "notes.txt").unlink()
    assert node.cli("send", "store", to, str(tmp_path)).returncode == 0
    assert node.cli("send", "echo", to).returncode == 0
    assert node.cli("send", "echo", f"NOBODY@127.0.0.1:{node.port}").returncode == 1


def test_streams_are_listed_with_what_they_can_do(node: Node) -> None:
    shown = node.cli("streams", "list").stdout
    assert "can run (" in shown and "MONTAGE" in shown
    found = {one["ae_title"]: one for one in node.cli_json("streams", "list")}
    assert found["ECHO"]["good"] and found["ECHO"]["lane"]["is_open"]


def test_the_index_agrees_with_the_files(node: Node, study: str) -> None:
    done = node.cli("index", "check", "--digests")
    assert done.returncode == 0, done.stdout
    assert node.cli("index", "migrate-status").returncode == 0


def test_the_metrics_count_what_happened(node: Node, study: str, failed: int) -> None:
    import urllib.request

    url = f"http://127.0.0.1:{node.web_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        lines = dict(
            line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#"
        )
    assert float(lines['brookbox_jobs{state="succeeded"}']) >= 1
    assert float(lines['brookbox_jobs{state="failed"}']) == 1
    assert float(lines["brookbox_instances_received_total"]) >= 4
    assert float(lines["brookbox_queue_up"]) == 1
    assert float(lines['brookbox_lanes_open{stream="ECHO"}']) >= 1
    assert float(lines['brookbox_beat_age_seconds{process="worker"}']) < 60


def test_an_older_routing_comes_back(node: Node) -> None:
    from datetime import UTC, datetime

    from appliance.router import edit

    settings = node.loaded
    good = "# ours\ndestinations: {a: {ae_title: A, host: 10.0.0.1, port: 104}}\nrules: []\n"
    edit.save(settings, good, edit.load(settings).digest, "a test", datetime.now(UTC))
    [version] = [one for one in node.cli_json("routing", "history") if one["who"] == "a test"]
    edit.save(settings, "rules: []\n", edit.load(settings).digest, "another", datetime.now(UTC))
    assert "10.0.0.1" not in node.cli("routing", "show").stdout
    assert node.cli("routing", "restore", version["name"]).returncode == 2, "it did not ask"
    assert node.cli("routing", "restore", "--yes", version["name"]).returncode == 0
    assert settings.routing_file.read_text() == good
    assert node.cli_json("events", "--kind", "routing changed")
    assert node.cli("routing", "check").returncode == 0
    settings.routing_file.write_text("rules: [{name: x, to: [nowhere]}]\n")
    broken = node.cli("routing", "check")
    assert broken.returncode == 1 and "nowhere is not a destination" in broken.stderr


def test_what_was_refused_is_in_quarantine(node: Node, tmp_path: Path) -> None:
    files = []
    for number in range(3):
        ds = dicom.ct_slice()
        ds.StudyInstanceUID = ""
        files += dicom.write_study([ds], tmp_path / str(number))
    file = files[0]
    for one_file in [*files, file]:
        assert node.send([one_file], "BROOKBOX", "CT9").acknowledged == []
    found = node.cli_json("quarantine", "list")
    one, *more = (entry for entry in found if entry["calling_ae_title"] == "CT9")
    shown = node.cli("quarantine", "show", one["id"]).stdout
    assert "0xA900" in shown and f"{one['id']}.dcm" in shown
    assert "in quarantine" in node.cli("why", "CT9").stdout
    assert "in the last 24 hours: brookbox quarantine list" in node.cli("status").stdout
    assert "came into quarantine" in node.cli("doctor").stdout
    assert node.cli("quarantine", "remove", "--yes", one["id"]).returncode == 0
    assert one["id"] not in node.cli("quarantine", "list").stdout
    ids = [other["id"] for other in more]
    assert len(ids) == 2, "what came twice is one entry"
    assert node.cli("quarantine", "remove", "--yes").returncode == 2
    assert node.cli_json("quarantine", "remove", "--yes", *ids) == {"removed": ids}
    node.send([file], "BROOKBOX", "CT9")
    node.cli("quarantine", "remove", "--all", "--yes")
    assert "Quarantine is empty" in node.cli("quarantine", "list").stdout


def test_the_command_line_judges_streams_as_the_running_node_does(node: Node) -> None:
    streams = node.home / "streams"
    serving = streams / "before" / "info.json"
    info = {"AETitle": "TWICE", "command": ["python3", "run.py"], "trusted": True}

    def state(folder: str) -> str:
        rows = node.cli_json("status")["streams"]
        return next((row["state"] for row in rows if row["folder"] == folder), "")

    serving.parent.mkdir()
    serving.write_text(json.dumps(info))
    wait_for(lambda: state("before") == "can run", "the new stream serves")
    wait_for(lambda: "before" in served.noted(node.layout.root), "the node has noted it")
    shutil.copytree(serving.parent, streams / "copy")
    wait_for(lambda: state("copy") == "broken", "the copy is refused")
    assert state("before") == "can run"
    assert peers.echoscu(node.port, "TWICE"), "the one that served goes on"
    shutil.rmtree(streams / "copy")
    serving.write_text(json.dumps({**info, "enabled": 0}))
    wait_for(lambda: state("before") == "off", "it is switched off")
    shutil.rmtree(serving.parent)
