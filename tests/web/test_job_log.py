"""The log of a job: its end in the page, what is new by asking, all of it as text."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from appliance.index.attempts import Finish
from appliance.index.jobs import get
from tests.web.day import Day
from web.job_log import plain, tail


def ask(client: FlaskClient, job_id: int, offset: int) -> TestResponse:
    """Ask for what is new."""
    return client.get(f"/jobs/{job_id}/log?offset={offset}")


def test_what_is_new_comes_with_where_to_go_on(client: FlaskClient, ids: SimpleNamespace) -> None:
    first = ask(client, ids.failed, 0)
    assert first.mimetype == "text/plain"
    assert first.get_data(as_text=True).startswith("reading 24 instances")
    end = int(first.headers["X-Next-Offset"])
    assert end == len(first.data)
    assert first.headers["X-Job-State"] == "failed"
    assert ask(client, ids.failed, 10).data == first.data[10:]
    assert ask(client, ids.failed, end).headers["X-Log-Ended"] == "1"


def test_a_waiting_request_wakes_when_something_is_written(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    log = day.layout.job(ids.running).log
    size = log.stat().st_size

    def write() -> None:
        time.sleep(0.6)
        with log.open("a") as file:
            file.write("slice 13\n")

    writing = threading.Thread(target=write)
    writing.start()
    answer = ask(client, ids.running, size)
    writing.join()
    assert answer.get_data(as_text=True) == "slice 13\n"
    assert "X-Log-Ended" not in answer.headers


def test_a_waiting_request_wakes_when_the_job_ends(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    size = day.layout.job(ids.running).log.stat().st_size
    with day.db.read() as connection:
        job = get(connection, ids.running)
    ending = threading.Timer(0.5, lambda: day.ended(job, Finish("success")))
    ending.start()
    answer = ask(client, ids.running, size)
    ending.join()
    assert answer.headers["X-Job-State"] == "succeeded"
    assert answer.headers["X-Log-Ended"] == "1"


def test_waiting_requests_never_take_every_thread(
    app: Flask, client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    slots = app.extensions["brookbox"].slots
    while slots.acquire(blocking=False):
        pass
    size = day.layout.job(ids.running).log.stat().st_size
    began = time.monotonic()
    answer = ask(client, ids.running, size)
    assert time.monotonic() - began < 8
    assert answer.headers["Retry-After"] == "2"


def test_a_log_whose_middle_was_left_out_begins_again(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    answer = ask(client, ids.failed, 5_000_000)
    assert answer.headers["X-Offset"] == "0"
    assert answer.get_data(as_text=True).startswith("reading")


def test_a_character_is_never_cut_in_two(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    log = day.layout.job(ids.running).log
    size = log.stat().st_size
    with log.open("ab") as file:
        file.write("Läsion ☃".encode()[:-1])
    answer = ask(client, ids.running, size)
    assert answer.get_data(as_text=True) == "Läsion "
    with log.open("ab") as file:
        file.write("☃".encode()[-1:])
    rest = ask(client, ids.running, int(answer.headers["X-Next-Offset"]))
    assert rest.get_data(as_text=True) == "☃"


def test_the_page_shows_the_end_of_a_long_log(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    log = day.layout.job(ids.failed).log
    log.write_text("".join(f"line {n}\n" for n in range(50_000)))
    found = tail(log)
    assert found.text.endswith("line 49999\n") and found.text.startswith("line ")
    assert found.left_out > 0 and found.offset == log.stat().st_size
    body = client.get(f"/jobs/{ids.failed}").get_data(as_text=True)
    assert "line 49999" in body and "line 17\n" not in body
    whole = client.get(f"/jobs/{ids.failed}/log")
    assert whole.data == log.read_bytes()


def test_a_log_is_text_never_html(client: FlaskClient, ids: SimpleNamespace, day: Day) -> None:
    day.layout.job(ids.failed).log.write_text("</pre><script>alert(1)</script>\n")
    body = client.get(f"/jobs/{ids.failed}").get_data(as_text=True)
    assert "<script>alert" not in body and "&lt;script&gt;alert" in body
    assert client.get(f"/jobs/{ids.failed}/log").mimetype == "text/plain"


def test_a_link_in_the_place_of_the_log_is_not_followed(
    client: FlaskClient, ids: SimpleNamespace, day: Day
) -> None:
    log = day.layout.job(ids.failed).log
    log.unlink()
    log.symlink_to("/etc/passwd")
    assert b"root" not in client.get(f"/jobs/{ids.failed}/log").data
    assert b"root" not in ask(client, ids.failed, 0).data
    assert "root:" not in client.get(f"/jobs/{ids.failed}").get_data(as_text=True)


def test_odd_offsets_are_refused(client: FlaskClient, ids: SimpleNamespace) -> None:
    for offset in ("-1", "x", "9" * 30):
        assert client.get(f"/jobs/{ids.failed}/log?offset={offset}").status_code == 400
    assert client.get("/jobs/4711/log").status_code == 404


def test_colours_and_returns_of_a_terminal_are_left_out() -> None:
    assert plain(b"\x1b[31mred\x1b[0m\r\n 10%\r 20%\r\x07done\x1b]0;title\x07") == (
        "red\n 10%\n 20%\ndone"
    )
