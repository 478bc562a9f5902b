"""Who may ask: loopback without a key, beyond it only with one; no foreign page does anything."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from appliance.index import jobs
from appliance.index.database import Database
from appliance.settings import Settings
from tests.web.conftest import browser
from tests.web.day import Day
from tests.web.test_pages import form_token
from web.access_key import ensure_key, is_loopback
from web.app import make_app
from web.tries import Tries

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)


@pytest.fixture
def wide(settings: Settings) -> Settings:
    """Settings that listen beyond this machine."""
    return replace(settings, web=replace(settings.web, address="0.0.0.0"))


@pytest.fixture
def remote(wide: Settings, web_db: Database, day: Day) -> FlaskClient:
    """A browser on another machine."""
    return browser(make_app(wide, web_db), "http://node1.hospital:2813", "10.1.4.7")


@pytest.mark.parametrize("path", ["/", "/jobs", "/api/v1/jobs", "/health", "/nothing", "/login"])
def test_every_answer_carries_the_headers(client: FlaskClient, day: Day, path: str) -> None:
    headers = client.get(path).headers
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", ["localhost", "localhost:2813", "127.0.0.1:8080", "[::1]:2813"])
def test_loopback_needs_no_key(client: FlaskClient, day: Day, host: str) -> None:
    assert client.get("/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:2813", "10.1.4.7", "localhost.evil", "[::2]"]
)
def test_another_host_name_is_refused_in_words(client: FlaskClient, day: Day, host: str) -> None:
    answer = client.get("/jobs", headers={"Host": host})
    assert answer.status_code == 403
    assert "set web.address" in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    "name",
    ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "x-forwarded-proto", "Via"],
)
def test_a_proxy_ends_the_keyless_mode(client: FlaskClient, day: Day, name: str) -> None:
    answer = client.get("/jobs", headers={name: "1"})
    assert answer.status_code == 403
    assert "came through a proxy" in answer.get_data(as_text=True)


def test_beyond_loopback_a_page_leads_to_the_login(remote: FlaskClient) -> None:
    answer = remote.get("/jobs?state=failed")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login?next=%2Fjobs%3Fstate%3Dfailed"
    assert "Access key" in remote.get(answer.headers["Location"]).get_data(as_text=True)
    assert remote.get("/health").status_code == 200
    assert remote.get("/static/app.css").status_code == 200


def test_where_others_log_in_loopback_asks_for_the_key_too(
    settings: Settings, web_db: Database, day: Day
) -> None:
    asked = replace(settings, web=replace(settings.web, ask_key=True))
    local = browser(make_app(asked, web_db), "http://127.0.0.1:2813", "127.0.0.1")
    assert local.get("/jobs").headers["Location"].startswith("/login")
    key = {"Authorization": f"Bearer {ensure_key(asked).secret}"}
    assert local.get("/api/v1/jobs", headers=key).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/metrics"])
def test_programs_send_the_key_as_bearer(remote: FlaskClient, wide: Settings, path: str) -> None:
    assert remote.get(path).status_code == 401
    wrong = {"Authorization": "Bearer wrong"}
    assert remote.get(path, headers=wrong).status_code == 401
    right = {"Authorization": f"Bearer {ensure_key(wide).secret}"}
    assert remote.get(path, headers=right).status_code == 200


def test_the_key_opens_a_session(remote: FlaskClient, wide: Settings) -> None:
    answer = log_in(remote, ensure_key(wide).secret, where="/streams")
    assert answer.headers["Location"] == "/streams"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert ensure_key(wide).secret not in cookie
    assert remote.get("/jobs").status_code == 200
    remote.post("/logout", data={"token": form_token(remote)})
    assert remote.get("/jobs").status_code == 302


def test_a_forged_or_ended_session_is_none(remote: FlaskClient, wide: Settings) -> None:
    key, now = ensure_key(wide), datetime.now(UTC)
    old = key.session(now - timedelta(days=8))
    later = str(int((now + timedelta(days=99)).timestamp()))
    for value in (old, "", "x", f"{later}-a.{'0' * 64}", later + old[10:]):
        assert not key.is_session(value, now)
        remote.set_cookie("brookbox_session", value, domain="node1.hospital")
        assert remote.get("/jobs").status_code == 302
    assert key.is_session(key.session(now), now)


def test_wrong_keys_have_to_wait(remote: FlaskClient, wide: Settings) -> None:
    for _ in range(5):
        assert log_in(remote, "guess").status_code == 403
    refused = log_in(remote, ensure_key(wide).secret)
    assert refused.status_code == 429
    assert "Try again after" in refused.get_data(as_text=True)


def test_the_wait_ends_after_a_minute() -> None:
    tries, now = Tries(), datetime.now(UTC)
    for second in range(5):
        tries.add("10.1.1.1", now + timedelta(seconds=second))
    last = now + timedelta(seconds=5)
    assert tries.free_at("10.1.1.1", last) == now + timedelta(minutes=1)
    assert tries.free_at("10.1.1.2", last) is None
    assert tries.free_at("10.1.1.1", now + timedelta(seconds=61)) is None


def test_the_key_is_made_once_for_the_owner_alone(settings: Settings) -> None:
    key = ensure_key(settings)
    assert key.is_new and len(key.secret) >= 43
    assert stat.S_IMODE(settings.access_key_file.stat().st_mode) == 0o600
    again = ensure_key(settings)
    assert again.secret == key.secret and not again.is_new


def test_the_login_leads_nowhere_else(remote: FlaskClient, wide: Settings) -> None:
    for where in ("//evil.example", "https://evil.example", "/\\evil.example", "/a\nb"):
        assert log_in(remote, ensure_key(wide).secret, where).headers["Location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
    ],
)
@pytest.mark.parametrize("is_program", [False, True])
def test_a_foreign_page_does_nothing(
    client: FlaskClient, ids: SimpleNamespace, day: Day, headers: dict[str, str], is_program: bool
) -> None:
    token = form_token(client)
    if is_program:
        answer = client.post(f"/api/v1/jobs/{ids.queued}/cancel", json={}, headers=headers)
    else:
        data = {"token": token}
        answer = client.post(f"/jobs/{ids.queued}/cancel", data=data, headers=headers)
    assert answer.status_code == 403
    with day.db.read() as connection:
        assert jobs.get(connection, ids.queued).state == "queued"


def test_a_form_needs_its_token_and_a_program_its_type(
    client: FlaskClient, ids: SimpleNamespace
) -> None:
    answer = client.post(f"/jobs/{ids.queued}/cancel", data={"token": "0"})
    assert answer.status_code == 403
    assert "reload the page" in answer.get_data(as_text=True)
    assert client.post(f"/jobs/{ids.queued}/cancel").status_code == 403
    assert client.post(f"/api/v1/jobs/{ids.queued}/cancel").status_code == 415
    assert client.post(f"/api/v1/jobs/{ids.queued}/cancel", data={"a": 1}).status_code == 415


def test_nothing_changes_by_get(client: FlaskClient, ids: SimpleNamespace) -> None:
    for path in (f"/jobs/{ids.queued}/cancel", "/streams/switch", "/theme", "/logout"):
        assert client.get(path).status_code in (404, 405)


def test_a_large_body_is_refused(client: FlaskClient, day: Day) -> None:
    answer = client.post("/theme", data={"token": form_token(client), "theme": "x" * 100_000})
    assert answer.status_code == 413
    assert "too large" in answer.get_data(as_text=True)


def test_loopback_is_this_machine_only() -> None:
    ours = ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "LocalHost")
    others = ("0.0.0.0", "::", "10.0.0.1", "", "localhost.x")
    assert all(is_loopback(host) for host in ours)
    assert not any(is_loopback(host) for host in others)


def log_in(client: FlaskClient, key: str, where: str = "/"):  # type: ignore[no-untyped-def]
    page = client.get("/login").get_data(as_text=True)
    found = re.search(r'name="token" value="([0-9a-f]+)"', page)
    assert found
    data = {"token": found.group(1), "key": key, "next": where}
    return client.post("/login", data=data, headers={"Origin": "http://node1.hospital:2813"})


@pytest.mark.parametrize("path", ["/jobs?q=%00", "/api/v1/jobs?stream=a%00b", "/activity?job=%00"])
def test_what_is_no_text_is_refused(client: FlaskClient, day: Day, path: str) -> None:
    assert client.get(path).status_code == 400
