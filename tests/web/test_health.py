"""The page Health: what is wrong with its remedy, and the node's own numbers as drawn lines."""

from __future__ import annotations

import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from appliance.index import alerts, samples
from appliance.index.samples import Sample
from tests.web.day import Day
from tests.web.test_pages import text_of
from web import sparkline

FIVE = timedelta(minutes=5)


@pytest.fixture
def a_day_of_numbers(day: Day) -> Day:
    """A day in which ten instances came every five minutes but in its second half hour."""
    begun = day.now - timedelta(hours=24) + timedelta(minutes=1)
    for number in range(288):
        if not 6 <= number < 12:
            numbers = {"instances_received": 10.0, "disk_free_bytes": 1e9 * (400 - number)}
            samples.add(day.db, numbers, begun + number * FIVE)
    return day


def test_an_alert_is_on_every_page_with_its_remedy(client: FlaskClient, day: Day) -> None:
    sentence = "3 jobs of the stream <b>X</b> failed in a row."
    alerts.begin(day.db, "stream", "X", sentence, "brookbox why X", day.now)
    for path in ("/", "/jobs", "/node"):
        body = client.get(path).get_data(as_text=True)
        banner = body.split('id="banners"')[1].split("<main")[0]
        assert "banner-bad" in banner and "brookbox why X" in banner, path
        assert "&lt;b&gt;X&lt;/b&gt; failed" in banner and "<b>X" not in body
    assert "brookbox why X" in text_of(client, "/node")
    told = client.get("/api/v1/alerts").get_json()
    assert [one["kind"] for one in told["open"]] == ["stream"] and told["ended"] == []


def test_of_many_the_most_urgent_are_shown_and_the_rest_is_counted(
    client: FlaskClient, day: Day
) -> None:
    for number in range(5):
        alerts.begin(day.db, "waiting", f"S{number}", f"A study waits {number}.", "", day.now)
    alerts.begin(day.db, "stream", "X", "X fails.", "", day.now)
    body = client.get("/").get_data(as_text=True)
    banners = re.findall(r"<p>([^<]+?) ?<a", body.split('id="banners"')[1].split("<main")[0])
    found = [one for one in banners if "waits" in one or "X" in one or "more" in one]
    assert found[0] == "X fails." and found[-1] == "2 more things are wrong." and len(found) == 5


def test_one_that_is_over_is_a_line_and_no_banner(client: FlaskClient, day: Day) -> None:
    alerts.begin(day.db, "clock", "jump", "It jumped.", "look", day.now - timedelta(hours=2))
    with day.db.read() as connection:
        [one] = alerts.open_alerts(connection)
    alerts.end(day.db, one.id, day.now)
    page = text_of(client, "/node")
    assert "Nothing that the node knows of." in page and "2 h clock jump It jumped." in page
    assert "It jumped" not in client.get("/").get_data(as_text=True)


def test_numbers_are_summed_and_drawn(client: FlaskClient, a_day_of_numbers: Day) -> None:
    page = text_of(client, "/node?hours=24")
    assert "Instances received 2 820" in page.replace("\u202f", " ")
    assert "113 GB now" in page
    body = client.get("/node?hours=24").get_data(as_text=True)
    assert body.count('class="spark"') == 9
    assert re.search(r'class="bars" d="M1\.8 56V', body)


def test_the_numbers_twin_gives_samples_and_names(
    client: FlaskClient, a_day_of_numbers: Day
) -> None:
    names = client.get("/api/v1/numbers").get_json()["names"]
    assert "instances_received" in names
    found = client.get("/api/v1/numbers?name=disk_free_bytes&hours=1").get_json()
    assert 11 <= len(found["samples"]) <= 12 and found["samples"][-1]["value"] == 113e9
    for wrong in ("name=nothing", "name=disk_free_bytes&hours=0", "hours=169&name=wait_seconds"):
        assert client.get(f"/api/v1/numbers?{wrong}").status_code == 400


def test_a_new_node_says_when_the_first_come(client: FlaskClient, ids: SimpleNamespace) -> None:
    assert "after five minutes" in text_of(client, "/node")


def test_a_gap_is_a_gap_and_nothing_divides_by_nothing(day: Day) -> None:
    since, until = day.now - timedelta(hours=1), day.now
    at = [since + timedelta(minutes=minute) for minute in (1, 31)]
    drawn = sparkline.line([Sample(at[0], 4.0), Sample(at[1], 2.0)], since, until, 84)
    assert drawn.path.count("M") == 2 and "L" not in drawn.path and drawn.most == 4.0
    nothing = [Sample(at[0], 0.0)]
    assert sparkline.bars(nothing, since, until, 84).path == ""
    assert sparkline.line(nothing, since, until, 84).path == "M4.0 55.0H8.0"
    assert sparkline.bars([], since, until, 84).most is None


def test_the_last_value_is_never_above_what_is_called_the_most(
    client: FlaskClient, day: Day
) -> None:
    for number, seconds in enumerate([0.2, 0.0, 0.0, 0.4]):
        samples.add(day.db, {"wait_seconds": seconds}, day.now - (4 - number) * FIVE)
    page = text_of(client, "/node")
    assert "0.4 s at last" in page and "at most 0.4 s" in page
