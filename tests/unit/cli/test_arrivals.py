"""`brookbox arrivals list`: what is coming in first, then what came in, newest first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.main import main
from appliance.index import arrivals, database, migrate
from appliance.index.arrivals import Association, Reception
from appliance.index.database import Database
from appliance.settings import Settings
from tests.kit import catalogued

NOW = datetime.now(UTC)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Database]:
    db = database.connect(Settings(home=tmp_path))
    migrate.migrate(db)
    yield db
    db.close()


def arrive(db: Database, study: str, called: str = "ECHO") -> None:
    now = datetime.now(UTC)  # an association that is silent for long counts as closed
    arrivals.open_association(db, Association(study, called, "CT1", "10.0.0.1", "h/1/1", now))
    with db.write() as connection:
        uid = catalogued.add(connection, study, 1, now)
        came = Reception(uid, study, f"{study}.1", called, "CT1", "10.0.0.1", study, now)
        arrivals.receive(connection, came, "study")


def close(db: Database, study: str) -> None:
    [one] = [a for a in arrivals.open_arrivals(db, NOW) if a.study_uid == study]
    with db.write() as connection:
        arrivals.close_arrival(
            connection, one, NOW + timedelta(seconds=2), reason="Nothing came for 2 s.",
            incomplete=True, digest="", job_id=7,
        )  # fmt: skip


def listed(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["--home", str(tmp_path), "--json", "arrivals", "list", *words]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_open_ones_stand_first_and_say_what_they_wait_for(
    tmp_path: Path, index: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    for study in ("1.1", "1.2", "1.3"):
        arrive(index, study)
    for study in ("1.2", "1.3"):
        close(index, study)
    found = listed(tmp_path, capsys)
    assert [one["arrival"]["study_uid"] for one in found] == ["1.1", "1.3", "1.2"]
    assert found[0]["waits_for"] == "An association that brings it is open."
    assert found[1]["waits_for"] == "" and found[1]["arrival"]["instances"] == 1
    main(["--home", str(tmp_path), "arrivals", "list"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Nothing came for 2 s. Job 7. Maybe incomplete." in shown


def test_they_are_found_by_state_stream_and_study(
    tmp_path: Path, index: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    arrive(index, "1.1")
    arrive(index, "1.2", "MONTAGE")
    close(index, "1.2")
    for words, study in (
        (["--state", "open"], "1.1"),
        (["--state", "closed"], "1.2"),
        (["--stream", "MONTAGE"], "1.2"),
        (["--study", "1.1"], "1.1"),
        (["--limit", "1"], "1.1"),
    ):
        [one] = listed(tmp_path, capsys, *words)
        assert one["arrival"]["study_uid"] == study, words
    main(["--home", str(tmp_path), "arrivals", "list", "--stream", "NOBODY"])
    assert capsys.readouterr().out == "No arrival matches.\n"
