"""The web process as it is started: it listens, asks for the key, says what is wrong, stops."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.errors import SettingsError
from appliance.index import beats
from appliance.settings import Settings, Web
from tests.kit import waiting
from tests.web.day import Day
from web.service import make_server

CHECKOUT = Path(__file__).resolve().parents[2]
START = "import sys; from appliance import settings_file; from web.service import run; sys.exit(run(settings_file.load()))"  # noqa: E501


@contextmanager
def web_process(home: Path, prelude: str = "", **overrides: str) -> Iterator[subprocess.Popen[str]]:
    """Run the web process as the supervisor does; `prelude` is Python that runs in it first."""
    environment = {
        **os.environ, "BROOKBOX_HOME": str(home), "PYTHONPATH": str(CHECKOUT),
        **{f"BROOKBOX_WEB_{name.upper()}": value for name, value in overrides.items()},
    }
    process = subprocess.Popen(
        [sys.executable, "-c", f"{prelude}\n{START}"], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Ask like a program that knows nothing of us."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=names)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_it_starts_beats_and_stops_when_asked(ids: SimpleNamespace, day: Day) -> None:
    def web_beats() -> list[str]:
        with day.db.read() as connection:
            return [b.process for b in beats.all_beats(connection) if b.name == "web"]

    port = waiting.free_port()
    with web_process(day.settings.home, port=str(port)) as process:
        waiting.wait_for(lambda: waiting.is_listening(port), "the web listens")
        assert get(port, "/health") == (200, "ok\n")
        waiting.wait_for(web_beats, "the web beats")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert web_beats() == []
        log = process.stdout.read() if process.stdout else ""
    assert '"event": "web started"' in log
    assert "Doe" not in log


def test_a_waiting_log_request_does_not_hold_a_stop_up(ids: SimpleNamespace, day: Day) -> None:
    port = waiting.free_port()
    size = day.layout.job(ids.running).log.stat().st_size
    with web_process(day.settings.home, port=str(port)) as process:
        waiting.wait_for(lambda: waiting.is_listening(port), "the web listens")
        with socket.create_connection(("127.0.0.1", port)) as waiter:
            path = f"/jobs/{ids.running}/log?offset={size}"
            waiter.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            process.send_signal(signal.SIGTERM)
            assert process.wait(9) == 0


def test_a_taken_port_is_a_sentence(ids: SimpleNamespace, day: Day) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with web_process(day.settings.home, port=str(port)) as process:
            _, errors = process.communicate(timeout=30)
            assert process.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken by another program" in errors
    assert "web.port" in errors and "Traceback" not in errors


def test_an_index_that_was_never_made_is_a_sentence(tmp_path: Path) -> None:
    with web_process(tmp_path, port=str(waiting.free_port())) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "brookbox up" in errors and "Traceback" not in errors


@pytest.mark.parametrize("address", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_that_is_not_ours_is_a_sentence(address: str) -> None:
    settings = Settings(web=Web(address=address, port=2813))
    with pytest.raises(SettingsError, match="no place to listen on"):
        make_server(SimpleNamespace(), settings)  # type: ignore[arg-type]


def test_beyond_loopback_it_says_where_the_key_is_but_logs_it_never(
    ids: SimpleNamespace, day: Day
) -> None:
    port = waiting.free_port()
    with web_process(day.settings.home, port=str(port), address="0.0.0.0") as process:
        waiting.wait_for(lambda: waiting.is_listening(port), "the web listens")
        key = day.settings.access_key_file.read_text().strip()
        assert get(port, "/api/v1/jobs")[0] == 401
        assert get(port, "/api/v1/jobs", Authorization=f"Bearer {key}")[0] == 200
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=15)
    assert str(day.settings.access_key_file) in errors
    assert key not in out + errors


def test_a_proxy_is_seen_through_the_real_server(served: str, ids: SimpleNamespace) -> None:
    port = int(served.rsplit(":", 1)[1])
    assert get(port, "/jobs")[0] == 200
    for name in ("X_Forwarded_For", "X_Forwarded_Host", "X_Forwarded_Proto", "Forwarded", "Via"):
        status, body = get(port, "/jobs", **{name: "for=10.0.0.1"})
        assert status == 403 and "through a proxy" in body
    assert get(port, "/jobs", Host="evil.example")[0] == 403


def test_a_head_and_a_resumed_zip_work_through_the_real_server(
    served: str, ids: SimpleNamespace
) -> None:
    port = int(served.rsplit(":", 1)[1])
    path = f"/jobs/{ids.succeeded}/results.zip"

    def fetch(method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body

    status, headers, whole = fetch()
    assert (status, int(headers["content-length"])) == (200, len(whole))
    status, _, rest = fetch(Range="bytes=70000-", **{"If-Range": headers["etag"]})
    assert (status, whole[:70000] + rest) == (206, whole)
    status, headers, body = fetch("HEAD")
    assert (status, int(headers["content-length"]), body) == (200, len(whole), b"")
