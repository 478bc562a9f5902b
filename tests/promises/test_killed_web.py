"""kill -9 of the web in the middle of a request, FT-19: half done is not done, and goes again."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.index import jobs
from tests.kit import waiting
from tests.web.conftest import day, full_day, ids, settings, web_db  # noqa: F401 (fixtures)
from tests.web.day import Day
from tests.web.test_service import web_process

# Runs in the web first: says when a request is about to write.
TELLS = """
import pathlib
from appliance.index import jobs
whole = jobs.retry
def told(*args, **kwargs):
    pathlib.Path({!r}).touch()
    return whole(*args, **kwargs)
jobs.retry = told
"""
KINDS = {"Content-Type": "application/json"}


def retry(port: int, job_id: int) -> int:
    """Ask for another run of a failed job; give the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", f"/api/v1/jobs/{job_id}/retry", json.dumps({}), KINDS)
        return connection.getresponse().status
    finally:
        connection.close()


def state_of(day: Day, job_id: int) -> str:  # noqa: F811
    with day.db.read() as connection:
        return jobs.get(connection, job_id).state


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL


def test_ft_19_the_web_killed_with_half_a_request_read_has_done_nothing(
    ids: SimpleNamespace,  # noqa: F811
    day: Day,  # noqa: F811
) -> None:
    port = waiting.free_port()
    head = (
        f"POST /api/v1/jobs/{ids.failed}/retry HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
    )
    with web_process(day.settings.home, port=str(port)) as process:
        waiting.wait_for(lambda: waiting.is_listening(port), "the web listens")
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(head.encode())
            killed(process)
            with pytest.raises(ConnectionResetError):
                # A server that closes with bytes unread resets; one that has read them says end.
                if not client.recv(100):
                    raise ConnectionResetError
    assert state_of(day, ids.failed) == "failed"
    with web_process(day.settings.home, port=str(port)):
        waiting.wait_for(lambda: waiting.is_listening(port), "the web listens again")
        assert retry(port, ids.failed) == 200
    assert state_of(day, ids.failed) == "queued"


def test_ft_19_the_web_killed_while_it_waits_to_write_has_done_nothing(
    tmp_path: Path,
    ids: SimpleNamespace,  # noqa: F811
    day: Day,  # noqa: F811
) -> None:
    port, answers = waiting.free_port(), list[str]()

    def ask() -> None:
        try:
            answers.append(str(retry(port, ids.failed)))
        except (OSError, http.client.HTTPException) as error:
            answers.append(type(error).__name__)

    reached = tmp_path / "reached"
    with web_process(day.settings.home, TELLS.format(str(reached)), port=str(port)) as process:
        waiting.wait_for(lambda: waiting.is_listening(port), "the web listens")
        client = threading.Thread(target=ask)
        # The request is read and judged; its one write has to wait for ours.
        with day.db.write():
            client.start()
            waiting.wait_for(reached.exists, "it wants to write")
            killed(process)
        client.join(20)
    assert answers in (["RemoteDisconnected"], ["ConnectionResetError"])
    assert state_of(day, ids.failed) == "failed"
    with web_process(day.settings.home, port=str(port)):
        waiting.wait_for(lambda: waiting.is_listening(port), "the web listens again")
        assert retry(port, ids.failed) == 200
    assert state_of(day, ids.failed) == "queued"
