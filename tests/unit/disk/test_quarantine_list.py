"""The list of quarantine: in pages, by kind, without reading what is not shown."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.disk import quarantine, quarantine_list
from appliance.disk.layout import Layout
from appliance.disk.quarantine import Kind
from appliance.disk.quarantine_list import QuarantineList
from tests.kit.quarantined import put_aside

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.make()
    return layout


@pytest.fixture
def ids(layout: Layout) -> list[str]:
    """Seven entries, the newest first; every third is held."""
    made = [
        put_aside(layout, Kind.REFUSED if n % 3 else Kind.HELD, NOW - timedelta(hours=n))
        for n in range(7)
    ]
    calm(layout)
    return made


def calm(layout: Layout) -> None:
    """Let the folder's last change be long past."""
    os.utime(layout.quarantine, (1, 1))


def test_pages_follow_each_other_and_hold_each_entry_once(layout: Layout, ids: list[str]) -> None:
    listed, found, before = QuarantineList(layout), [], ""
    for _ in range(3):
        page = listed.page(before=before, limit=3)
        found.append([one.id for one in page.entries])
        before = page.older
    assert found == [ids[:3], ids[3:6], ids[6:]]
    assert before == ""


def test_a_kind_has_pages_and_a_count_of_its_own(layout: Layout, ids: list[str]) -> None:
    listed = QuarantineList(layout)
    page = listed.page(Kind.HELD, limit=2)
    assert [one.id for one in page.entries] == [ids[0], ids[3]]
    assert [one.id for one in listed.page(Kind.HELD, page.older, 2).entries] == [ids[6]]
    assert listed.counts()[Kind.HELD] == 3 and listed.counts()[Kind.REFUSED] == 4
    assert listed.count_since(NOW - timedelta(hours=4, minutes=1)) == 3, "held ones apart"


def test_only_what_is_shown_is_read_and_kinds_once(
    layout: Layout, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = quarantine.read

    def counted(layout: Layout, id: str) -> quarantine.Entry:
        read.append(id)
        return real(layout, id)

    monkeypatch.setattr(quarantine, "read", counted)
    listed = QuarantineList(layout)
    listed.page(limit=2)
    assert read == ids[:2]
    listed.counts()
    read.clear()
    listed.counts()
    listed.page(Kind.HELD, limit=1)
    assert read == ids[:1], "of known entries only what is shown"


def test_what_is_changed_added_and_removed_is_noticed(layout: Layout, ids: list[str]) -> None:
    listed = QuarantineList(layout)
    assert listed.counts()[Kind.HELD] == 3
    quarantine.remove(layout, ids[0])
    entry = quarantine.begin_try(layout, ids[1], NOW)
    held = replace(
        entry, association_id=entry.try_name, kind=Kind.HELD, reason="Another patient."
    )
    assert quarantine.keep(layout, quarantine.file_of(layout, ids[1]), held) == ids[1]
    put_aside(layout, Kind.CONFLICT, NOW)
    counts = listed.counts()
    assert (counts[Kind.HELD], counts[Kind.REFUSED], counts[Kind.CONFLICT]) == (3, 3, 1)
    [now] = [one for one in listed.page().entries if one.id == ids[1]]
    assert (now.tries, now.tried, now.tried_at) == (1, "Another patient.", NOW)
    assert now.status == 0xC000, "what the sender was told does not change"


def test_words_that_cannot_be_read_hide_nothing(layout: Layout, ids: list[str]) -> None:
    (layout.quarantine / f"{ids[2]}.json").write_text('{"id": "')
    (layout.quarantine / "notes.txt").write_text("somebody's own")
    listed = QuarantineList(layout)
    assert listed.counts()[Kind.LEFTOVER] == 1
    assert "Its words cannot be read" in listed.page().entries[2].reason
    assert [path.name for path in listed.strays()] == ["notes.txt"]


def test_a_node_that_was_never_started_has_nothing_there(tmp_path: Path) -> None:
    assert quarantine_list.newest(Layout(tmp_path / "none"), 5) == ()
