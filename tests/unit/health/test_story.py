"""What `brookbox why` tells is true, and each thing is told once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.health import story, story_of_ae_title
from appliance.health.job_sentences import said, why_and_message
from appliance.index import arrivals, attempts, deliveries, events
from appliance.index import schema as t
from appliance.index.arrivals import Association
from appliance.index.attempts import Finish
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.settings import Settings
from tests.kit.quarantined import put_aside
from tests.unit.index.test_moves_of_a_job import NOW, claim, create, new_job

REFUSED = "No stream has the AE title FULL: who calls it is refused (1,1,7)."


def of_full(db: Database, tmp_path: Path) -> list[str]:
    return story_of_ae_title.of_ae_title(db, Settings(home=tmp_path), "FULL")


def called(db: Database, ending: Ending = Ending.RELEASED) -> None:
    one = Association("a", "ECHO", "FULL", "10.0.0.1", "h/1/1", NOW)
    arrivals.open_association(db, one)
    arrivals.close_association(db, "a", ending, NOW, instances=4, failures=0)


def test_an_ae_title_that_only_calls_is_told_of_as_a_sender(db: Database, tmp_path: Path) -> None:
    assert of_full(db, tmp_path) == [REFUSED]
    called(db)
    first, second, _ = of_full(db, tmp_path)
    assert first.startswith("FULL is a sender: it called ECHO, the last time at 2026-01-02")
    assert second == REFUSED


def test_a_sender_that_was_refused_is_told_of_as_one(db: Database, tmp_path: Path) -> None:
    with db.write() as connection:
        events.append(connection, "association refused", "No.", NOW, who="FULL", calling="FULL")
    assert of_full(db, tmp_path)[0] == "FULL is a sender: it called this node, and was refused."


def test_what_files_do_not_tell_of_an_association_is_not_made_up(
    db: Database, tmp_path: Path
) -> None:
    called(db, Ending.UNKNOWN)
    told = of_full(db, tmp_path)[-1]
    assert "4 instances kept, how it ended is not known" in told and "refused" not in told


def test_what_is_in_quarantine_is_not_told_as_kept_and_all_stands_in_order_of_time(
    db: Database, tmp_path: Path
) -> None:
    called(db)
    layout = Layout(Settings(home=tmp_path).data_root)
    layout.make()
    minute = timedelta(minutes=1)
    put_aside(layout, Kind.HELD, NOW + minute, calling_ae_title="FULL")
    with db.write() as connection:
        events.append(
            connection, "association closed", "FULL sent 4.", NOW, who="FULL", association="a",
            called="ECHO", held=1, conflicts=2,
        )  # fmt: skip
        events.append(connection, "association refused", "No.", NOW + 2 * minute, who="FULL")
        events.append(connection, "association refused", "Not.", NOW, who="x", called="full")
    lines = of_full(db, tmp_path)[2:]
    assert "1 instance kept, 2 in quarantine (other content is kept), 1 held" in lines[0]
    assert [line[11:19] for line in lines] == ["03:04:05", "03:05:05", "03:06:05"]
    assert "is in quarantine" in lines[1] and lines[2].endswith(" No.")
    assert "Did you mean" not in "".join(lines)


def test_a_try_of_a_person_is_no_call_of_the_sender(db: Database, tmp_path: Path) -> None:
    one = Association(f"q{'0' * 23}-1", "ECHO", "FULL", "10.0.0.1", "h/1/1", NOW)
    arrivals.open_association(db, one)
    arrivals.close_association(db, one.id, Ending.RELEASED, NOW, instances=0, failures=1)
    with db.write() as connection:
        sentence = "Ann had a file tried again, out of quarantine. It stays there: x."
        events.append(connection, "tried", sentence, NOW, who="Ann", calling="FULL")
    refused, tried = of_full(db, tmp_path)
    assert refused == REFUSED and tried.endswith(sentence)


@pytest.mark.parametrize("was_sent", [True, False])
def test_a_superseded_job_says_whether_its_results_had_been_sent(
    db: Database, was_sent: bool
) -> None:
    older = create(db, new_job())
    job = claim(db)
    assert job is not None
    with db.write() as connection:
        attempts.finish(connection, job, Finish("success", result_count=1), NOW)
        deliveries.create(
            connection, job_id=older, destination="pacs", what="output", rule="r",
            instances=["1"], now=NOW,
        )  # fmt: skip
        state = "delivered" if was_sent else "gave_up"
        connection.execute(sa.update(t.deliveries).values(state=state))
    newer = create(db, new_job(input_digest="more"))
    [line] = [one for one in story.of_job(db, older) if "superseded" in one]
    assert f"by job {newer}, which has more of the study." in line
    fate = "had been sent already, to pacs." if was_sent else "are not sent."
    assert line.endswith(f"Its own results {fate}")


def test_what_a_partial_job_says_is_told_once(db: Database) -> None:
    create(db, new_job())
    job = claim(db)
    assert job is not None
    with db.write() as connection:
        reason = "It says that it did only a part: no flow series."
        end = Finish("partial", reason=reason, message="no flow series", result_count=1)
        attempts.finish(connection, job, end, NOW)
    assert "\n".join(story.of_job(db, job.id)).count("no flow series") == 2  # and in the event


@pytest.mark.parametrize(
    ("reason", "message", "both"),
    [
        ("", "", ("", "")),
        ("It failed.", "", ("It failed.", "")),
        ("", "odd", ("odd", "")),
        ("It says: odd.", "odd", ("It says: odd.", "")),
        ("odd.", "odd!", ("odd.", "")),
        ("odd", "very odd indeed", ("very odd indeed", "")),
        ("It ended with exit code 3.", "odd", ("It ended with exit code 3.", "odd")),
    ],
)
def test_reason_and_message_do_not_repeat_each_other(
    reason: str, message: str, both: tuple[str, str]
) -> None:
    assert why_and_message(reason, message) == both
    assert said(reason, message) == " ".join(both).strip()
