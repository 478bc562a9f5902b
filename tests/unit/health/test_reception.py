"""What the receiving processes say of themselves, as doctor and the figures tell it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import ids
from appliance.disk import behind
from appliance.disk.layout import Layout
from appliance.health.reception import check_reception
from appliance.index.database import Database
from appliance.metrics import exposition
from appliance.settings import Receiver, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    Layout(tmp_path / "data").make()
    return Settings(home=tmp_path)


def note_of_a_dead_process(layout: Layout) -> Path:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        name = str(ids.name_of(child.pid))
        child.communicate(b"\n")
    path = layout.run / f"rows-behind-{child.pid}.json"
    said = {"process": name, "rows": 9, "seconds": 99.0, "durability": ""}
    path.write_text(json.dumps(said))
    return path


def test_doctor_says_which_way_of_syncing_is_taken_and_why(settings: Settings) -> None:
    layout = Layout(settings.data_root)
    (said,) = check_reception(settings)
    assert (said.level, said.about) == ("ok", "durability")
    behind.note(layout, 3, 0.01, "each file is synced by itself: of late it was faster")
    (said,) = check_reception(settings)
    assert "each file is synced by itself: of late it was faster." in said.sentence


def test_doctor_warns_of_what_a_power_cut_loses(settings: Settings) -> None:
    loose = Settings(home=settings.home, receiver=Receiver(durability="none"))
    (said,) = check_reception(loose)
    assert said.level == "warn"
    assert "power cut" in said.sentence
    assert "committed" in said.remedy


def test_rows_that_are_behind_for_long_are_wrong_and_those_of_the_dead_do_not_count(
    settings: Settings,
) -> None:
    layout = Layout(settings.data_root)
    dead = note_of_a_dead_process(layout)
    behind.note(layout, 12, 8.0, "")
    said = [one for one in check_reception(settings) if one.about == "rows"]
    assert [one.level for one in said] == ["wrong"]
    assert said[0].sentence.startswith("12 images that came in")
    assert not dead.exists()
    behind.remove(layout)
    assert behind.read(layout) == []


def test_a_note_that_is_cut_off_is_passed_over(settings: Settings) -> None:
    layout = Layout(settings.data_root)
    (layout.run / "rows-behind-1.json").write_text('{"process": ')
    (layout.run / "rows-behind-2.json").write_text('{"odd": 1}')
    assert behind.read(layout) == []


def test_the_figures_tell_how_far_rows_are_behind(index_settings: Settings, db: Database) -> None:
    layout = Layout(index_settings.data_root)
    layout.make()
    behind.note(layout, 12, 8.0, "")
    text = exposition.render(index_settings, db).decode()
    assert "brookbox_rows_behind 12.0" in text
    assert "brookbox_rows_behind_seconds 8.0" in text
