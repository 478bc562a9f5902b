"""Every page shows what the index holds, safely, and has a twin for programs."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from flask import Flask
from flask.testing import FlaskClient

from appliance.errors import IndexUnavailable
from appliance.index import beats, lanes
from appliance.index.attempts import Finish
from tests.kit import waiting
from tests.web.conftest import write_stream
from tests.web.day import HOSTILE_NAME, Day

PAGES = [
    "/", "/jobs", "/jobs?state=failed", "/jobs?q=Doe", "/streams", "/arrivals", "/deliveries",
    "/deliveries?state=gave_up", "/routing", "/quarantine", "/activity", "/node", "/jobs/1",
    "/deliveries/1", "/nothing-here",
]  # fmt: skip
TWINS = [
    "status", "jobs", "jobs/1", "streams", "arrivals", "deliveries", "deliveries/1", "routing",
    "quarantine", "events", "node", "alerts", "numbers",
]  # fmt: skip
STATES = ["queued", "running", "succeeded", "partial", "failed", "cancelled", "held", "removed"]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


def text_of(client: FlaskClient, path: str) -> str:
    """What a person reads: no tags, no doubled spaces."""
    body = client.get(path).get_data(as_text=True)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body.split("<main")[1])).split())


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_inline_script_or_style(
    client: FlaskClient, ids: SimpleNamespace, path: str
) -> None:
    tags = _Tags()
    tags.feed(client.get(path).get_data(as_text=True))
    assert all(dict(found).get("src") for tag, found in tags.found if tag == "script")
    assert "style" not in {tag for tag, _ in tags.found}
    for _, attributes in tags.found:
        for name, value in attributes:
            assert name != "style" and not name.startswith("on")
            assert not (value or "").startswith("javascript:")


@pytest.mark.parametrize("path", [*PAGES, *(f"/api/v1/{twin}" for twin in TWINS)])
def test_every_page_answers(client: FlaskClient, ids: SimpleNamespace, path: str) -> None:
    assert client.get(path).status_code == (404 if path == "/nothing-here" else 200)


@pytest.mark.parametrize("twin", TWINS)
def test_every_twin_is_json(client: FlaskClient, ids: SimpleNamespace, twin: str) -> None:
    assert isinstance(client.get(f"/api/v1/{twin}").get_json(), dict)


@pytest.mark.parametrize("name", STATES)
def test_a_job_in_every_state_has_a_page(
    client: FlaskClient, ids: SimpleNamespace, name: str
) -> None:
    assert f"Job {getattr(ids, name)}" in text_of(client, f"/jobs/{getattr(ids, name)}")


def test_a_hostile_name_stays_text_everywhere(client: FlaskClient, ids: SimpleNamespace) -> None:
    for path in ("/", "/jobs", f"/jobs/{ids.hostile}", "/jobs?q=<script>alert(1)</script>"):
        body = client.get(path).get_data(as_text=True)
        assert "<script>alert" not in body
        assert "<img src=x" not in body
    assert HOSTILE_NAME.split("^")[0] in text_of(client, f"/jobs/{ids.hostile}")


def test_the_page_of_a_failed_job_says_why_and_what_to_do(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    page = text_of(client, f"/jobs/{ids.failed}")
    assert "Failed after 2 min 14 s: it ran out of memory at 2 GB: raise memory_gb" in page
    assert "What to do: raise memory_gb in streams/montage/info.json, then retry" in page
    assert "sha256:5f70bf18" in page


def test_the_page_of_a_running_job_says_how_far_it_is(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    page = text_of(client, f"/jobs/{ids.running}")
    assert "windowing slices, 12 of 51." in page
    assert "Cancel" in page


def test_a_held_job_can_be_sent_anyway(client: FlaskClient, ids: SimpleNamespace) -> None:
    assert "Send anyway" in text_of(client, f"/jobs/{ids.held}")
    assert "Send anyway" not in text_of(client, f"/jobs/{ids.succeeded}")


def test_a_job_whose_files_were_removed_has_a_tombstone(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    folder = day.layout.job(ids.failed)
    folder.log.unlink()
    folder.info.unlink()
    folder.output.rmdir()
    folder.path.rmdir()
    page = text_of(client, f"/jobs/{ids.failed}")
    assert "Its log and its other files have been removed" in page
    assert "ran out of memory" in page


def test_jobs_can_be_found_by_state_stream_and_patient(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    def found(query: str) -> set[int]:
        return {job["id"] for job in client.get(f"/api/v1/jobs?{query}").get_json()["jobs"]}

    assert found("state=failed") == {ids.failed, ids.hostile}
    assert found("stream=ECHO") == {ids.removed, ids.partial}
    assert found("q=doe") == {ids.succeeded}
    assert found("q=P-1002&state=failed") == {ids.failed}
    assert "No jobs match" in text_of(client, "/jobs?q=nobody")


def test_a_long_list_goes_on_where_it_ended(client: FlaskClient, day: Day) -> None:
    study = day.study("Many^Jobs", "P", "CT")
    made = [day.queued(study, run_again_of=1) for _ in range(60)]
    first = client.get("/api/v1/jobs").get_json()
    rest = client.get(f"/api/v1/jobs?before={first['next_before']}").get_json()
    listed = [job["id"] for job in [*first["jobs"], *rest["jobs"]]]
    assert listed == sorted(made, reverse=True)
    assert rest["next_before"] is None


def test_a_study_that_still_arrives_is_shown_with_what_it_waits_for(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    page = text_of(client, "/jobs")
    assert "Zoe, Zelda" in page
    assert "23 images, the last" in page
    assert "An association that brings it is open." in page


def test_an_identical_study_says_that_nothing_was_done(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    page = text_of(client, "/jobs")
    assert f"Identical to job {ids.succeeded}; nothing done." in page
    assert "Run it again" in page


def test_home_says_how_to_send(client: FlaskClient, ids: SimpleNamespace) -> None:
    missing = "The image brookbox/echo:1.0.0 is not on this machine."
    waiting.wait_for(lambda: missing in text_of(client, "/"), "the streams have settled")
    page = text_of(client, "/")
    assert "11113" in page
    assert "BROOKBOX" in page
    assert "1 waiting" in page and "2 failed in 24 hours" in page


def test_a_new_node_explains_the_first_steps(client: FlaskClient, day: Day) -> None:
    assert "Enter this node in your PACS or OsiriX" in text_of(client, "/")
    assert "There are no jobs yet" in text_of(client, "/jobs")


def test_a_process_that_is_silent_is_a_banner(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    assert "is not running" not in client.get("/jobs").get_data(as_text=True)
    with day.db.read() as connection:
        receiver = [b.process for b in beats.all_beats(connection) if b.name == "receiver"]
    beats.remove(day.db, receiver)
    page = client.get("/jobs").get_data(as_text=True)
    assert "The receiver is not running: nothing can be received." in page


def test_streams_show_what_is_wrong_and_what_was_refused(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    write_stream(day.settings.streams_folder, "bad", "BAD", "Bad", memory_gbb=2)
    waiting.wait_for(lambda: "BAD" in text_of(client, "/streams"), "the broken stream is shown")
    page = text_of(client, "/streams")
    assert re.search(r"info\.json:\d+: memory_gbb is not a key of info\.json\. Did you mean", page)
    assert "brookbox streams check bad" in page
    assert "called montage, which no stream has. Did you mean MONTAGE?" in page


def test_a_copy_of_a_stream_that_serves_says_who_does(client: FlaskClient, day: Day) -> None:
    before = text_of(client, "/").count("MONTAGE")
    write_stream(day.settings.streams_folder, "montage-copy", "MONTAGE", "Montage")
    sentence = "This copy does not serve; the folder montage does."
    waiting.wait_for(lambda: sentence in text_of(client, "/streams"), "the copy is seen")
    card = text_of(client, "/streams").split(sentence)[0].rsplit("MONTAGE", 1)[1]
    assert "does not serve" in card and "until its folder is mended" not in card
    rows = client.get("/api/v1/streams").get_json()["streams"]
    assert {row["folder"]: row["served_by"] for row in rows}["montage-copy"] == "montage"
    assert text_of(client, "/").count("MONTAGE") == before, "who may be called is told once"


def test_a_stream_says_what_its_plain_process_can_read(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    for is_confined, said in ((True, "hidden from"), (False, "everything that the node keeps")):
        day.lane("MONTAGE", executor="process", is_confined=is_confined)
        assert said in text_of(client, "/streams")
        rows = client.get("/api/v1/streams").get_json()["streams"]
        [row] = [row for row in rows if row["ae_title"] == "MONTAGE"]
        assert row["executor"] == "process" and any(said in one for one in row["grants"])


def test_a_switched_off_stream_is_a_banner(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    lanes.switch_off(day.db, "MONTAGE", "a person", day.now)
    assert "Switched off by a person: MONTAGE." in client.get("/").get_data(as_text=True)


def test_waiting_jobs_of_a_stream_that_is_gone_are_a_banner(
    client: FlaskClient, day: Day
) -> None:
    day.queued(day.study("A^B", "P", "CT"), "GONE")
    page = client.get("/jobs").get_data(as_text=True)
    assert "No stream has the AE title GONE any more; 1 study waits." in page
    assert "put its folder back" in page and "/jobs?stream=GONE" in page


def test_the_events_of_one_job_are_listed(client: FlaskClient, ids: SimpleNamespace) -> None:
    found = client.get(f"/api/v1/events?job={ids.failed}").get_json()["events"]
    assert found and {one["job_id"] for one in found} == {ids.failed}
    assert f"Only: job {ids.failed}." in text_of(client, f"/activity?job={ids.failed}")


def test_broken_routing_is_a_banner_and_shows_its_line(client: FlaskClient, day: Day) -> None:
    file = day.settings.routing_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("destinations:\n  pacs: {ae_title: PACS, host: 10.1.1.1}\n")
    assert "Routing is broken" in client.get("/jobs").get_data(as_text=True)
    assert "routing.yaml:2" in text_of(client, "/routing")


def test_routing_is_shown_in_words(client: FlaskClient, day: Day) -> None:
    file = day.settings.routing_file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "destinations:\n  pacs: {ae_title: PACS, host: 10.1.1.1, port: 104}\n"
        "rules:\n- {name: all, called: MONT.*, to: [pacs, back-to-sender]}\n"
    )
    page = text_of(client, "/routing")
    assert "outcome is success or partial, and called AE title matches MONT.*" in page
    assert "back to the sender (last)" in page


def test_a_delivery_says_what_became_of_each_instance(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    page = text_of(client, f"/deliveries/{ids.gave_up}")
    assert "the PACS refused 1 of 2 instances for good." in page
    assert "0xA900" in page and "1 sent, 1 failed" in page


def test_an_index_that_does_not_answer_is_a_sentence(
    app: Flask, client: FlaskClient, ids: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise IndexUnavailable("the index cannot be used just now: locked", remedy="wait")

    monkeypatch.setattr(app.extensions["brookbox"].db, "read", broken, raising=False)
    for path in ("/jobs", "/health", "/api/v1/jobs"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "The index cannot be used just now" in answer.get_data(as_text=True)


def test_what_nobody_expected_is_a_sentence_with_an_id_and_no_secret(
    app: Flask,
    client: FlaskClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> None:
        raise RuntimeError(HOSTILE_NAME)

    monkeypatch.setattr(app.extensions["brookbox"].db, "read", broken, raising=False)
    answer = client.get("/api/v1/jobs")
    assert answer.status_code == 500
    assert len(answer.get_json()["error_id"]) > 10
    said = answer.get_data(as_text=True) + capsys.readouterr().out
    assert "RuntimeError" in said and "alert" not in said


def test_mistyped_addresses_are_sentences(client: FlaskClient, ids: SimpleNamespace) -> None:
    assert "There is no job 4711." in text_of(client, "/jobs/4711")
    assert client.get("/jobs?state=odd").status_code == 400
    assert client.get("/jobs?before=x").status_code == 400
    for number in ("9" * 20, "abc", "-1"):
        assert client.get(f"/activity?job={number}").status_code == 400
    assert client.get("/activity?before=x").status_code == 400
    assert client.get(f"/jobs/{10**30}").status_code == 404
    assert client.get("/api/v1/nothing").get_json()["status"] == 404


def test_the_theme_is_kept_in_a_cookie(client: FlaskClient) -> None:
    token = form_token(client)
    answer = client.post("/theme", data={"theme": "dim", "next": "/jobs", "token": token})
    assert answer.headers["Location"] == "/jobs"
    assert 'data-theme="dim"' in client.get("/").get_data(as_text=True)
    away = client.post("/theme", data={"theme": "dim", "next": "//evil.example", "token": token})
    assert away.headers["Location"] == "/"


def test_metrics_are_those_of_prometheus(client: FlaskClient, ids: SimpleNamespace) -> None:
    answer = client.get("/metrics")
    assert answer.mimetype == "text/plain"
    assert "# TYPE brookbox_" in answer.get_data(as_text=True)


def test_a_partial_job_says_what_the_stream_said(client: FlaskClient, ids: SimpleNamespace) -> None:
    page = text_of(client, f"/jobs/{ids.partial}")
    assert "Only a part was made after 25 s: 1 of 2 series could not be read." in page


def test_a_partial_job_says_once_what_the_stream_said(client: FlaskClient, day: Day) -> None:
    job = day.running(day.queued(day.study("A^B", "P", "CT")))
    reason = "It says that it did only a part: no flow series."
    day.ended(job, Finish("partial", reason=reason, message="no flow series", result_count=1))
    head = text_of(client, f"/jobs/{job.id}").split(" Steps ")[0]
    assert head.count("no flow series") == 1


def test_a_superseded_job_says_whether_its_results_had_been_sent(
    client: FlaskClient, day: Day
) -> None:
    study = day.study("A^B", "P", "CT")
    kept = day.succeeded(study)
    sent = day.succeeded(study, ae_title="ECHO")
    day.delivery(sent, "pacs", "delivered")
    day.queued(study)
    day.queued(study, "ECHO")
    assert "more of the study. Its own results are not sent." in text_of(client, f"/jobs/{kept}")
    page = text_of(client, f"/jobs/{sent}")
    assert "more of the study. Its own results had been sent already, to pacs." in page


def test_the_job_of_a_dead_machine_says_why_it_waits(client: FlaskClient, day: Day) -> None:
    job = day.running(day.queued(day.study("A^B", "P", "CT")))
    day.ended(job, Finish("failed", reason="IO failed."))
    assert "Failed after 9 s: IO failed." in text_of(client, f"/jobs/{job.id}")


def form_token(client: FlaskClient) -> str:
    """The token of the forms, as a page gives it."""
    found = re.search(r'name="token" value="([0-9a-f]+)"', client.get("/").get_data(as_text=True))
    assert found
    return found.group(1)
