"""routing.yaml is written by one module: checked first, never over somebody else's change."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import NotFound, RoutingChanged, RoutingError
from appliance.router import edit, edit_text, routing_file
from appliance.settings import Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TEXT = """\
# the lab's rules
destinations:
  # the archive
  pacs:
    ae_title: PACS   # case counts
    host: 192.0.2.1
    port: 104

# first match first
rules:
  # heads
  - name: heads
    called: HEAD.*
    to: pacs   # for now

  # and the rest
  - name: rest
    to: [pacs]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path)
    made.routing_file.parent.mkdir()
    made.routing_file.write_text(TEXT)
    return made


def save(settings: Settings, text: str, who: str = "anna") -> str:
    return edit.save(settings, text, edit.load(settings).digest, who, NOW)


def test_what_is_saved_is_the_text_as_it_was_written(settings: Settings) -> None:
    text = TEXT.replace("104", "11112") + "# the end\n"
    assert save(settings, text) == "Destination pacs changed."
    assert settings.routing_file.read_text() == text


def test_a_change_that_somebody_else_made_meanwhile_is_not_overwritten(
    settings: Settings,
) -> None:
    loaded = edit.load(settings)
    save(settings, TEXT + "# anna was here\n")
    with pytest.raises(RoutingChanged):
        edit.save(settings, TEXT + "# ben too\n", loaded.digest, "ben", NOW)
    assert settings.routing_file.read_text().endswith("# anna was here\n")


def test_of_many_who_save_at_once_exactly_one_does(settings: Settings) -> None:
    loaded = edit.load(settings)
    told: list[str] = []

    def try_to(who: str) -> None:
        try:
            edit.save(settings, f"{TEXT}# {who}\n", loaded.digest, who, NOW)
            told.append(who)
        except RoutingChanged:
            pass

    threads = [threading.Thread(target=try_to, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1
    assert settings.routing_file.read_text().endswith(f"# {told[0]}\n")


def test_a_text_with_mistakes_is_never_written(settings: Settings) -> None:
    with pytest.raises(RoutingError, match=r"routing.yaml:14: rules\[1\].to: pasc"):
        save(settings, TEXT.replace("to: pacs ", "to: pasc "))
    assert settings.routing_file.read_text() == TEXT


def test_every_version_is_kept_with_who_and_when(settings: Settings) -> None:
    save(settings, TEXT.replace("104", "105"), "anna")
    save(settings, TEXT.replace("104", "106"), "ben")
    kept = edit.history(settings)
    assert [one.who for one in kept] == ["ben", "anna", "by hand"]
    assert kept[0].what == "Destination pacs changed."
    assert kept[1].at == NOW.isoformat()
    assert edit.version_text(settings, kept[2].name) == TEXT


def test_an_older_version_is_put_back_as_a_new_one(settings: Settings) -> None:
    save(settings, TEXT.replace("104", "105"))
    first = edit.history(settings)[-1]
    edit.restore(settings, first.name, edit.load(settings).digest, "ben", NOW)
    assert settings.routing_file.read_text() == TEXT
    assert edit.history(settings)[0].who == "ben"


def test_a_version_is_found_by_its_name_only(settings: Settings) -> None:
    with pytest.raises(NotFound):
        edit.version_text(settings, "../../config/routing")


def test_a_broken_file_can_be_mended(settings: Settings) -> None:
    settings.routing_file.write_text("rules: 5\n")
    assert save(settings, TEXT) == "The file had mistakes and was mended."


def test_the_first_rules_are_written_where_there_was_no_file(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    fields = {"ae_title": "P", "host": "192.0.2.1", "port": 104}
    what = edit.change(settings, lambda t: edit_text.put_destination(t, "p", fields), "a", NOW)
    assert what == "Destination p added."
    assert list(routing_file.load(settings).destinations) == ["p"]


def test_the_empty_text_takes_the_file_away_and_may_be_gone_back_from(settings: Settings) -> None:
    save(settings, "")
    assert not settings.routing_file.exists()
    assert edit.load(settings).text == ""
    [_, by_hand] = edit.history(settings)
    edit.restore(settings, by_hand.name, edit.load(settings).digest, "anna", NOW)
    assert settings.routing_file.read_text() == TEXT


def test_a_link_stays_a_link_and_the_mode_stays(settings: Settings, tmp_path: Path) -> None:
    real = tmp_path / "real.yaml"
    settings.routing_file.rename(real)
    real.chmod(0o604)
    settings.routing_file.symlink_to(real)
    save(settings, TEXT + "# more\n")
    assert settings.routing_file.is_symlink()
    assert real.read_text().endswith("# more\n")
    assert real.stat().st_mode & 0o777 == 0o604


def comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: edit_text.put_destination(t, "b", {"ae_title": "B", "host": "h", "port": 1}),
        lambda t: edit_text.put_destination(t, "pacs", {"port": 105, "associations": 2}),
        lambda t: edit_text.add_rule(t, {"name": "x", "to": ["pacs"]}),
        lambda t: edit_text.add_rule(t, {"name": "x", "to": ["pacs"]}, 1),
        lambda t: edit_text.change_rule(t, "rest", {"stop": True, "what": "input"}),
        lambda t: edit_text.enable_rule(t, "heads", False),
        lambda t: edit_text.move_rule(t, "rest", 1),
        lambda t: edit_text.move_rule(t, "heads", 9),
        lambda t: edit_text.remove_rule(t, "rest"),
    ],
)
def test_a_structured_edit_keeps_every_comment(settings: Settings, change: object) -> None:
    changed = change(TEXT)  # type: ignore[operator]
    routing_file.parse(changed, settings)
    kept = comments(changed)
    assert [one for one in comments(TEXT) if one not in kept] == []
    assert change(TEXT) != TEXT  # type: ignore[operator]


def test_a_comment_goes_with_the_rule_below_it() -> None:
    moved = edit_text.move_rule(TEXT, "rest", 1)
    lines = [line.strip() for line in moved.splitlines()]
    assert lines[lines.index("- name: rest") - 1] == "# and the rest"
    added = edit_text.put_destination(TEXT, "b", {"ae_title": "B", "host": "h", "port": 1})
    lines = added.splitlines()
    assert lines[lines.index("rules:") - 1] == "# first match first"


def test_rules_are_put_in_the_order_that_is_asked_for(settings: Settings) -> None:
    text = edit_text.add_rule(TEXT, {"name": "x", "to": ["pacs"]}, 2)
    text = edit_text.move_rule(text, "heads", 3)
    assert [rule.name for rule in routing_file.parse(text, settings).rules] == [
        "x",
        "rest",
        "heads",
    ]


def test_a_destination_that_rules_use_is_not_removed() -> None:
    with pytest.raises(RoutingError, match="still used by: heads, rest"):
        edit_text.remove_destination(TEXT, "pacs")
    unused = edit_text.put_destination(TEXT, "b", {"ae_title": "B", "host": "h", "port": 1})
    assert edit_text.remove_destination(unused, "b") == TEXT


def test_what_is_not_there_cannot_be_changed() -> None:
    for change in (
        lambda: edit_text.remove_rule(TEXT, "none"),
        lambda: edit_text.move_rule(TEXT, "none", 1),
        lambda: edit_text.remove_destination(TEXT, "none"),
    ):
        with pytest.raises(NotFound):
            change()
