"""What is in quarantine is tried again under the rules of today; killed or repeated, it is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.disk import quarantine
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Entry, Kind
from appliance.disk.studies import Studies
from appliance.errors import (
    DoesNotMatch,
    IndexUnavailable,
    InstanceRefused,
    NotFound,
    QuarantineError,
)
from appliance.health.side_by_side import side_by_side
from appliance.index import events
from appliance.index import schema as t
from appliance.index.database import Database
from appliance.intake import adoption
from appliance.intake.again import Again, remove
from appliance.intake.filing import Filing, Kept
from appliance.settings import Receiver, Settings
from appliance.streams.catalog import Stream, Streams
from appliance.streams.info import StreamInfo
from tests.kit.dicom import ct_slice
from tests.unit.intake.given import CT1, NOW, bytes_of, count, instance, stored, waiting

Send = Callable[..., Kept]
ECHO = StreamInfo.model_validate({"AETitle": "ECHO", "command": ["run"], "trusted": True})
STREAMS = Streams((Stream(Path("echo"), ECHO, "brookbox", (), "ECHO"),))
RULES = Receiver(reserve_gb=0, reserve_percent=0)


@pytest.fixture
def again(db: Database, layout: Layout, tmp_path: Path) -> Again:
    return Again(db, layout, Settings(home=tmp_path, receiver=RULES), STREAMS, "Ann")


def only(layout: Layout) -> Entry:
    (entry,) = quarantine.entries(layout)
    return entry


def told(db: Database) -> list[str]:
    with db.read() as connection:
        return [event.sentence for event in events.latest(connection, 20)]


@pytest.fixture
def lacking(send: Send, layout: Layout) -> Entry:
    """An instance without a Study Instance UID, which was refused."""
    ds = ct_slice()
    del ds.StudyInstanceUID
    with pytest.raises(DoesNotMatch):
        send(ds)
    return only(layout)


@pytest.fixture
def held(send: Send, layout: Layout) -> Entry:
    """An instance of another patient under a known study."""
    first = ct_slice(patient_id="P-1", patient_name="Doe^Jane")
    send(first)
    other = ct_slice(
        2, patient_id="P-2", patient_name="Roe^Richard", study_uid=first.StudyInstanceUID
    )
    assert send(other).is_held
    return only(layout)


def test_what_the_settings_take_today_is_kept_and_says_where_it_went(
    db: Database, layout: Layout, again: Again, lacking: Entry
) -> None:
    rules = replace(again.settings, receiver=replace(RULES, coerce=True))
    tried = replace(again, settings=rules).try_again(lacking.id, NOW)
    assert tried.is_kept and tried.sentence == "It is kept now: it came in for ECHO."
    assert quarantine.entries(layout) == [] and waiting(layout) == []
    assert len(stored(layout)) == 1 and count(db, t.receptions) == 1
    assert told(db)[0] == (
        "Ann had a file tried again, out of quarantine. It is kept now: it came in for ECHO."
    )
    with db.read() as connection:
        [event] = events.latest(connection, 1)
    assert event.who == "Ann" and json.loads(event.facts)["quarantine"] == lacking.id


def test_what_they_do_not_take_stays_one_entry_and_says_why(
    db: Database, layout: Layout, again: Again, lacking: Entry
) -> None:
    for tries in (1, 2):
        tried = again.try_again(lacking.id, NOW)
        assert not tried.is_kept
        assert tried.sentence == "Study Instance UID (0020,000D) is absent or empty."
        entry = only(layout)
        assert (entry.id, entry.tries, entry.tried_at) == (lacking.id, tries, NOW)
        assert (entry.tried, entry.status) == (tried.sentence, 0xA900)
    assert waiting(layout) == [] and stored(layout) == []
    kinds = [sentence.split(" ")[0] for sentence in told(db)]
    assert kinds == ["Ann", "Ann", "An"], "each try is told once, as the act of a person"


def test_its_arrival_is_like_one_that_was_released(
    db: Database, again: Again, lacking: Entry
) -> None:
    rules = replace(again.settings, receiver=replace(RULES, coerce=True))
    replace(again, settings=rules).try_again(lacking.id, NOW)
    with db.read() as connection:
        [row] = connection.execute(t.associations.select()).all()
    assert (row.calling_ae_title, row.called_ae_title, row.ending) == ("CT1", "ECHO", "released")


def test_what_is_held_is_taken_in_only_on_a_person_s_word(
    db: Database, layout: Layout, again: Again, held: Entry
) -> None:
    assert held.kind is Kind.HELD
    tried = again.try_again(held.id, NOW)
    assert not tried.is_kept and "another patient" in tried.sentence
    assert only(layout).kind is Kind.HELD
    tried = again.try_again(held.id, NOW, accept_identity=True)
    assert tried.is_kept and len(stored(layout)) == 2
    assert quarantine.entries(layout) == []
    assert told(db)[0].startswith("Ann took a held file in all the same, out of quarantine.")


def test_only_what_is_held_can_be_taken_in_all_the_same(again: Again, lacking: Entry) -> None:
    with pytest.raises(QuarantineError, match="is not held"):
        again.try_again(lacking.id, NOW, accept_identity=True)


def test_nobody_s_name_stands_in_words_or_events(
    db: Database, layout: Layout, again: Again, held: Entry
) -> None:
    pairs = {pair.what: pair for pair in side_by_side(db, layout, held)}
    assert (pairs["Patient ID"].kept, pairs["Patient ID"].came) == ("P-1", "P-2")
    assert pairs["Patient's name"].differs and not pairs["Study Instance UID"].differs
    again.try_again(held.id, NOW)
    again.try_again(held.id, NOW, accept_identity=True)
    words = " ".join(told(db)) + str(held)
    assert not any(name in words for name in ("Doe", "Roe", "P-1", "P-2"))


def test_a_conflict_shows_both_and_takes_the_place_when_that_is_the_rule(
    send: Send, db: Database, layout: Layout, again: Again
) -> None:
    ds = ct_slice(patient_name="Doe^Jane")
    send(ds)
    ds.PatientBirthDate = "19800202"
    send(ds, sender=replace(CT1, association_id="a2"))
    entry = only(layout)
    pairs = {pair.what: pair for pair in side_by_side(db, layout, entry)}
    assert (pairs["Birth date"].kept, pairs["Birth date"].came) == ("19700101", "19800202")
    before = count(db, t.receptions), count(db, t.arrivals)
    assert not again.try_again(entry.id, NOW).is_kept
    assert only(layout).id == entry.id
    assert (count(db, t.receptions), count(db, t.arrivals)) == before, "nobody sent anything"
    assert "It stays there: An instance with this SOP" in told(db)[0]
    rules = replace(again.settings, receiver=replace(RULES, on_conflict="replace"))
    assert replace(again, settings=rules).try_again(entry.id, NOW).is_kept
    now = only(layout)
    assert (now.kind, now.id != entry.id) == (Kind.REPLACED, True)
    pairs = {pair.what: pair for pair in side_by_side(db, layout, now)}
    assert (pairs["Birth date"].kept, pairs["Birth date"].came) == ("19800202", "19700101")


@pytest.mark.parametrize("step", ["linked", "registered", "told"])
def test_a_try_that_is_killed_and_repeated_gives_one_copy(
    db: Database,
    layout: Layout,
    again: Again,
    held: Entry,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    class Killed(BaseException):
        """As SIGKILL: nothing of ours runs after it."""

    def killed(*args: object, **facts: object) -> None:
        raise Killed

    at = {
        "linked": (Filing, "_register"),
        "registered": (Filing, "_put_aside"),
        "told": (quarantine, "remove"),
    }
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*at[step], killed)
        patch.setattr("appliance.disk.incoming.Incoming.leave", lambda self, path: None)
        again.try_again(held.id, NOW, accept_identity=True)
    adoption.adopt(db, layout, STREAMS, NOW)
    assert {entry.id for entry in quarantine.entries(layout)} <= {held.id}
    assert again.try_again(held.id, NOW, accept_identity=True).is_kept
    assert quarantine.entries(layout) == [] and waiting(layout) == []
    assert len(stored(layout)) == 2 and count(db, t.instances) == 2


def test_two_at_once_do_not_try_the_same(layout: Layout, again: Again, lacking: Entry) -> None:
    with (
        quarantine.claimed(layout, lacking.id),
        pytest.raises(QuarantineError, match="just now"),
    ):
        again.try_again(lacking.id, NOW)
    assert not again.try_again(lacking.id, NOW).is_kept
    with pytest.raises(NotFound):
        again.try_again("0" * 23, NOW)


def test_an_index_that_is_away_keeps_the_entry_and_the_reason(
    layout: Layout, again: Again, held: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Filing, *args: object, **facts: object) -> None:
        raise IndexUnavailable("the index is locked", remedy="wait")

    with monkeypatch.context() as patch, pytest.raises(IndexUnavailable):
        patch.setattr(Filing, "_register", away)
        again.try_again(held.id, NOW, accept_identity=True)
    assert only(layout).tried == "the index is locked"
    assert again.try_again(held.id, NOW, accept_identity=True).is_kept


def test_what_is_no_dicom_stays_with_the_reason_and_can_be_removed(
    db: Database, layout: Layout, again: Again, tmp_path: Path
) -> None:
    left = tmp_path / "left"
    left.write_bytes(b"GIF89a")
    words = Entry("", "why", "", 0, "", "", "", "", "", "", "", NOW, kind=Kind.LEFTOVER)
    id = quarantine.keep(layout, left, words)
    assert "This is not a DICOM file" in again.try_again(id, NOW).sentence
    with pytest.raises(NotFound):
        remove(db, layout, [id, "0" * 23], "Ann", NOW)
    assert len(quarantine.entries(layout)) == 1, "all of them or none"
    remove(db, layout, [id], "Ann", NOW)
    assert quarantine.entries(layout) == []
    assert told(db)[0] == "Ann removed a file from quarantine."


def test_what_was_sent_to_a_stream_that_is_gone_is_kept_without_a_job(
    send: Send, db: Database, layout: Layout, again: Again, tmp_path: Path
) -> None:
    ds = ct_slice()
    raw = bytes_of(ds, tmp_path)
    with pytest.raises(InstanceRefused):
        send(ds, data=raw[:-4])
    file = quarantine.file_of(layout, only(layout).id)
    whole = file.read_bytes() + raw[-4:]
    file.unlink()
    file.write_bytes(whole)  # a person mended it
    tried = replace(again, streams=Streams()).try_again(only(layout).id, NOW)
    assert tried.is_kept and tried.arrival_id is None
    assert "No stream has the AE title ECHO today" in tried.sentence
    assert Studies(layout).path(instance(db, ds).path).exists()
