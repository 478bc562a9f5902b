"""Quarantine for a person: the list, one entry beside what is kept, and what is done with it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydicom.dataset import Dataset

from appliance.disk import quarantine
from appliance.disk.quarantine import Entry, Kind
from appliance.errors import InstanceRefused
from appliance.index import catalog, events
from appliance.intake.filing import Sender
from appliance.intake.take import Intake
from tests.kit.dicom import ct_slice
from tests.kit.quarantined import put_aside
from tests.unit.intake.given import LITTLE, bytes_of
from tests.web.conftest import browser
from tests.web.day import HOSTILE_NAME, Day


@pytest.fixture
def held(day: Day, tmp_path: Path) -> Entry:
    """An instance of another patient under a known study."""
    first = ct_slice(patient_id="P-1", patient_name="Doe^Jane")
    other = ct_slice(
        2, patient_id="P-2", patient_name=HOSTILE_NAME, study_uid=first.StudyInstanceUID
    )
    take(day, first, tmp_path)
    take(day, other, tmp_path)
    (entry,) = quarantine.entries(day.layout)
    return entry


@pytest.fixture
def refused(day: Day, tmp_path: Path) -> Entry:
    """An instance without a Study Instance UID."""
    ds = ct_slice()
    del ds.StudyInstanceUID
    with pytest.raises(InstanceRefused):
        take(day, ds, tmp_path)
    (entry,) = quarantine.entries(day.layout)
    return entry


def take(day: Day, ds: Dataset, folder: Path, association: str = "a1") -> None:
    intake = Intake(day.db, day.layout, "BROOKBOX")
    try:
        intake.keep(
            bytes_of(ds, folder),
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            transfer_syntax_uid=LITTLE,
            sender=Sender("ECHO", "CT1", "10.1.4.20", association),
            level="study",
            now=day.now,
        )
    finally:
        intake.close()


def token(client: FlaskClient) -> str:
    found = re.search(r'name="token" value="([^"]+)"', client.get("/quarantine").text)
    assert found
    return found[1]


def act(client: FlaskClient, entry: Entry, action: str, **more: str) -> str:
    answer = client.post(
        f"/quarantine/{entry.id}/{action}",
        data={"token": token(client), **more},
        follow_redirects=True,
    )
    assert answer.status_code == 200, answer.text
    return answer.text


def test_held_values_stand_side_by_side_and_nowhere_else(
    client: FlaskClient, day: Day, held: Entry
) -> None:
    text = client.get(f"/quarantine/{held.id}").text
    assert "P-1" in text and "P-2" in text and "Doe, Jane" not in text
    assert "Doe^Jane" in text and "<script>alert" not in text and "&lt;script&gt;" in text
    assert text.count("differs</strong>") == 2, "Patient ID and name"
    assert "new here" in text, "the series"
    assert "it did not join" in text and "Take it in all the same" in text
    words = quarantine.file_of(day.layout, held.id).with_suffix(".json").read_text()
    assert not any(name in words for name in ("P-1", "P-2", "Doe", "Mal"))
    shown = client.get(f"/api/v1/quarantine/{held.id}").json
    assert shown is not None and shown["may_be_taken_in"]
    assert {"what": "Patient ID", "kept": "P-1", "came": "P-2", "differs": True} in shown[
        "side_by_side"
    ]


def test_a_held_one_is_taken_in_after_a_second_word(
    client: FlaskClient, day: Day, held: Entry
) -> None:
    asked = act(client, held, "take-in")
    assert "Take it in all the same?" in asked and "one study of one patient" in asked
    assert len(quarantine.entries(day.layout)) == 1, "it was only asked"
    done = act(client, held, "take-in", confirm="yes")
    assert "took a held file in all the same" in done and "it came in for ECHO" in done
    assert quarantine.entries(day.layout) == []
    with day.db.read() as connection:
        kept = catalog.find_instance(connection, held.sop_instance_uid)
        [event, *_] = events.latest(connection, 1)
    assert kept is not None
    assert event.who == "a person in the web (127.0.0.1)"
    assert event.kind == "quarantined file kept"


def test_try_again_says_why_it_stays(client: FlaskClient, refused: Entry) -> None:
    text = act(client, refused, "retry")
    assert "Tried again 1 time" in text
    assert "It stays: Study Instance UID (0020,000D) is absent or empty." in text
    assert "0xA900" in text, "what its sender was told"
    answer = client.post(f"/api/v1/quarantine/{refused.id}/retry", json={})
    assert answer.status_code == 409 and answer.json is not None
    assert answer.json["is_kept"] is False and "0020,000D" in answer.json["sentence"]
    assert "tried 2 times" in client.get("/quarantine").text


def test_what_is_sent_again_is_one_entry_that_says_how_often(
    client: FlaskClient, day: Day, held: Entry, tmp_path: Path
) -> None:
    assert "Sent again" not in client.get(f"/quarantine/{held.id}").text
    came = quarantine.file_of(day.layout, held.id)
    ds = pydicom.dcmread(came)
    for _ in range(2):
        take(day, ds, tmp_path)
    assert [one.times for one in quarantine.entries(day.layout)] == [3]
    assert "came 3 times" in client.get("/quarantine").text
    assert "Came 3 times, last" in client.get(f"/quarantine/{held.id}").text
    answer = client.get("/api/v1/quarantine").json
    assert answer is not None
    assert (answer["total"], answer["entries"][0]["times"]) == (1, 3)
    assert answer["entries"][0]["last_at"] is not None


def test_remove_asks_and_leaves_an_event(client: FlaskClient, day: Day, refused: Entry) -> None:
    assert "Remove this file for good?" in act(client, refused, "remove")
    assert len(quarantine.entries(day.layout)) == 1
    done = act(client, refused, "remove", confirm="yes")
    assert "removed a file from quarantine" in done and "Nothing is in quarantine." in done
    assert client.get(f"/quarantine/{refused.id}").status_code == 404
    answer = client.post(f"/api/v1/quarantine/{refused.id}/remove", json={})
    assert answer.status_code == 404


def test_a_download_is_dicom_to_be_saved_under_a_name_of_ours(
    client: FlaskClient, day: Day, refused: Entry
) -> None:
    answer = client.get(f"/quarantine/{refused.id}/file")
    assert answer.data == quarantine.file_of(day.layout, refused.id).read_bytes()
    assert answer.headers["Content-Type"] == "application/dicom"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == f"attachment; filename={refused.id}.dcm"
    assert client.get("/quarantine/..%2f..%2fetc%2fpasswd/file").status_code == 404
    assert client.get("/quarantine/nonsense/file").status_code == 404


@pytest.mark.parametrize("action", ["retry", "take-in", "remove"])
def test_only_our_own_pages_may_act(app: Flask, day: Day, held: Entry, action: str) -> None:
    client = browser(app, "http://127.0.0.1:2813")
    path = f"/quarantine/{held.id}/{action}"
    assert client.post(path, data={"confirm": "yes"}).status_code == 403, "no token"
    foreign = {"Origin": "http://evil.example"}
    good = {"token": token(client), "confirm": "yes"}
    assert client.post(path, data=good, headers=foreign).status_code == 403
    assert client.post(f"/api/v1{path}", data="{}").status_code == 415
    assert client.get(path).status_code == 405
    assert quarantine.read(day.layout, held.id).tries == 0


def test_the_list_has_kinds_and_pages(client: FlaskClient, day: Day) -> None:
    for n in range(250):
        kind = Kind.CONFLICT if n % 5 else Kind.HELD
        put_aside(day.layout, kind, day.now - timedelta(minutes=n))
    text = client.get("/quarantine").text
    assert text.count("row-link") == 100 and "Older" in text and "Newest" not in text
    found = []
    older = ""
    for _ in range(3):
        page = client.get("/api/v1/quarantine", query_string={"before": older}).json
        assert page is not None
        found += [one["id"] for one in page["entries"]]
        older = page["older"]
    assert found == sorted(found, reverse=True) and len(set(found)) == 250 and older == ""
    assert page["counts"]["held"] == 50 and page["total"] == 250
    held = client.get("/quarantine?kind=held").text
    assert held.count("row-link") == 50 and "Older" not in held
    assert client.get("/quarantine?kind=nonsense").status_code == 400
    assert "Nothing of this kind" in client.get("/quarantine?kind=leftover").text


def test_what_waits_for_a_person_has_a_banner_of_its_own(client: FlaskClient, day: Day) -> None:
    put_aside(day.layout, Kind.HELD, day.now - timedelta(days=300))
    put_aside(day.layout, Kind.REFUSED, day.now - timedelta(hours=1))
    put_aside(day.layout, Kind.REFUSED, day.now - timedelta(hours=2))
    text = client.get("/jobs").text
    assert "1 file in quarantine waits for a person to decide." in text
    assert "2 files came into quarantine in the last 24 hours." in text


def test_ten_thousand_entries_are_not_read_for_a_page(
    client: FlaskClient, day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(300):
        put_aside(day.layout, Kind.REFUSED, day.now - timedelta(minutes=n))
    client.get("/quarantine")
    read: list[str] = []
    real = quarantine.read
    monkeypatch.setattr(quarantine, "read", lambda at, id: read.append(id) or real(at, id))
    client.get("/quarantine?kind=refused")
    assert len(read) == 100
    client.get("/jobs")
    assert len(read) == 100, "a banner reads nothing"


def conflict(day: Day, folder: Path, study_uid: str = "") -> Entry:
    """Other content under the UID of an instance that is kept, also of another study."""
    ds = ct_slice()
    take(day, ds, folder)
    ds.SeriesDescription = "<b>Coronal</b>"
    ds.PixelData = bytes(len(ds.PixelData))
    if study_uid:
        ds.StudyInstanceUID = ds.SeriesInstanceUID = study_uid
    take(day, ds, folder, "a2")
    (entry,) = quarantine.entries(day.layout)
    assert entry.kind is Kind.CONFLICT
    return entry


def test_a_conflict_shows_the_elements_that_differ(
    client: FlaskClient, day: Day, tmp_path: Path
) -> None:
    entry = conflict(day, tmp_path)
    text = client.get(f"/quarantine/{entry.id}").text
    listed = text.split("Elements that differ")[1]
    assert "SeriesDescription" in listed and "&lt;b&gt;Coronal" in listed and "<b>Cor" not in listed
    assert "PixelData" in listed and listed.count(", digest ") == 2
    answer = client.get(f"/api/v1/quarantine/{entry.id}").json
    assert answer is not None
    names = [one["what"] for one in answer["elements"]["pairs"]]
    assert names == ["SeriesDescription", "PixelData"]
    kept = Path(day.layout.root, "studies")
    [file] = [path for path in kept.rglob("*.dcm") if path.stem == entry.sop_instance_uid]
    file.write_bytes(b"no DICOM any more")
    text = client.get(f"/quarantine/{entry.id}").text
    assert "Which elements differ is not known: one of the two cannot be read." in text


def test_a_study_of_which_nothing_was_kept_is_not_said_to_be_kept_no_more(
    client: FlaskClient, day: Day, tmp_path: Path
) -> None:
    entry = conflict(day, tmp_path, "1.2.3.4")
    link = f'<a href="/quarantine/{entry.id}">in quarantine, never kept</a>'
    assert link in client.get("/jobs").text and link in client.get("/arrivals").text
    quarantine.remove(day.layout, entry.id)
    text = client.get("/arrivals").text
    assert link not in text and "never kept: other content was here first" in text
    assert "not kept any more" not in text


def test_a_vain_try_leaves_no_arrival(client: FlaskClient, day: Day, tmp_path: Path) -> None:
    entry = conflict(day, tmp_path, "1.2.3.4")
    before = client.get("/api/v1/arrivals").json
    assert client.post(f"/api/v1/quarantine/{entry.id}/retry", json={}).status_code == 409
    assert client.get("/api/v1/arrivals").json == before
