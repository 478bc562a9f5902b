"""The text of the routing rules, edited in a browser."""

from __future__ import annotations

import html
import re

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from appliance.router import edit
from tests.web.day import Day
from tests.web.test_pages import form_token

GOOD = "# our PACS\ndestinations:\n  pacs: {ae_title: PACS, host: 10.1.1.1, port: 104}\n"


def save(client: FlaskClient, text: str, digest: str) -> TestResponse:
    """Press Save, as a browser sends it."""
    data = {"token": form_token(client), "text": text.replace("\n", "\r\n"), "digest": digest}
    return client.post("/routing/edit", data=data)


def digest_shown(client: FlaskClient) -> str:
    """The digest that the form carries."""
    body = client.get("/routing/edit").get_data(as_text=True)
    found = re.search(r'name="digest" value="([0-9a-f]{64})"', body)
    assert found
    return found.group(1)


def test_what_is_saved_is_the_text_with_its_comments(client: FlaskClient, day: Day) -> None:
    assert save(client, GOOD, digest_shown(client)).headers["Location"] == "/routing"
    assert day.settings.routing_file.read_text() == GOOD
    assert "10.1.1.1" in client.get("/routing").get_data(as_text=True)
    assert "routing changed" in client.get("/activity").get_data(as_text=True)
    assert edit.history(day.settings)[0].who == "a person in the web (127.0.0.1)"


def test_mistakes_are_shown_and_nothing_is_saved(client: FlaskClient, day: Day) -> None:
    answer = save(client, GOOD.replace("port", "prt"), digest_shown(client))
    assert answer.status_code == 422
    body = html.unescape(answer.get_data(as_text=True))
    assert "routing.yaml:3" in body and "prt: 104" in body
    assert not day.settings.routing_file.exists()


def test_a_change_by_somebody_else_is_never_overwritten(client: FlaskClient, day: Day) -> None:
    digest = digest_shown(client)
    day.settings.routing_file.parent.mkdir(parents=True, exist_ok=True)
    day.settings.routing_file.write_text("# by hand\n")
    answer = save(client, GOOD, digest)
    assert answer.status_code == 409
    assert "somebody else" in answer.get_data(as_text=True)
    assert day.settings.routing_file.read_text() == "# by hand\n"


def test_an_older_version_can_be_opened_and_saved_again(client: FlaskClient, day: Day) -> None:
    save(client, GOOD, digest_shown(client))
    save(client, GOOD.replace("104", "11112"), digest_shown(client))
    older = edit.history(day.settings)[1].name
    body = client.get(f"/routing/edit?version={older}").get_data(as_text=True)
    assert "port: 104" in body and "older version" in body
    assert client.get("/routing/edit?version=../../x").status_code == 404


def test_programs_save_with_the_digest_they_read(client: FlaskClient, day: Day) -> None:
    digest = client.get("/api/v1/routing").get_json()["digest"]
    done = client.put("/api/v1/routing", json={"text": GOOD, "digest": digest})
    assert done.status_code == 200
    late = client.put("/api/v1/routing", json={"text": "", "digest": digest})
    assert late.status_code == 409
    wrong = client.put("/api/v1/routing", json={"text": "x: [", "digest": ""})
    assert wrong.status_code == 422
