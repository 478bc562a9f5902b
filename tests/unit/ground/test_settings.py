"""Settings: one declaration each; every mistake is told at once, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance import settings_file
from appliance.errors import SettingsError

CHECKOUT = Path(__file__).resolve().parents[3]


def load(
    tmp_path: Path, text: str, environment: dict[str, str] | None = None
) -> settings_file.Settings:
    file = tmp_path / "brookbox.yaml"
    file.write_text(text)
    return settings_file.load(file, tmp_path, environment or {})


def mistakes(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, environment)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


def test_without_any_file_the_settings_are_the_defaults(tmp_path: Path) -> None:
    settings = settings_file.load(None, tmp_path, {})
    assert settings.receiver.port == 11113
    assert settings.data_root == tmp_path / "data"
    assert settings.routing_file == tmp_path / "config" / "routing.yaml"


def test_the_sample_file_lists_every_setting_at_its_default() -> None:
    assert (CHECKOUT / "config" / "brookbox.yaml").read_text() == settings_file.sample()


def test_the_sample_file_with_every_line_switched_on_changes_nothing(tmp_path: Path) -> None:
    lines = settings_file.sample().splitlines()
    names = {one.name for one in settings_file.declared()}
    text = "\n".join(
        line.replace("# ", "", 1) if line.strip("# ").split(":")[0] in names else line
        for line in lines
    )
    assert "\n  port: 11113" in text
    loaded, blank = load(tmp_path, text), settings_file.Settings()
    for section in settings_file.sections():
        assert getattr(loaded, section) == getattr(blank, section)


def test_every_mistake_is_told_at_once_with_line_and_what_was_meant(tmp_path: Path) -> None:
    text = (
        "receiver:\n  prot: 104\n  port: 99999\ncompleteness:\n  quiet_secnds: 3\n"
        "jobs:\n  on_resend: maybe\nweb: 7\nroutr: {}\n"
    )
    assert mistakes(tmp_path, text) == [
        "brookbox.yaml:2: receiver.prot is not a setting. Did you mean port?",
        "brookbox.yaml:3: receiver.port must be at most 65535, not 99999.",
        "brookbox.yaml:5: completeness.quiet_secnds is not a setting. Did you mean quiet_seconds?",
        "brookbox.yaml:7: jobs.on_resend must be one of show, run, not 'maybe'.",
        "brookbox.yaml:8: web must hold settings, one a line.",
        "brookbox.yaml:9: routr is not a section. Did you mean router?",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("receiver:\n  port: [", "this is not YAML"),
        ("- a\n", "must hold sections"),
        ("receiver:\n  port: yes\n", "must be a whole number, not True"),
        ("receiver:\n  port: 1\n  port: 2\n", "a second time"),
        ("node:\n  ae_title: 'a\\b'\n", "no backslash"),
        ("completeness:\n  senders: {CT1: soon}\n", "must be a number, not 'soon'"),
        ("completeness:\n  senders: {CT1: -3}\n", "must be at least 0.1"),
        ("completeness:\n  quiet_seconds: .nan\n", "must be a number, not nan"),
        ("completeness:\n  quiet_seconds: .inf\n", "must be a number, not inf"),
        ("receiver:\n  allow_calling: ['A\\B']\n", "no backslash"),
        ("receiver:\n  allow_addresses: [10.1.0.0/16x]\n", "must be networks"),
        ("{{receiver}}: 1\n", "must be one word"),
        ("receiver:\n  {{port}}: 1\n", "must be one word"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    assert said in mistakes(tmp_path, text)[0]


@pytest.mark.parametrize("broken", ["receiver: [", "node:\n  nod: 1", "x: 1", "- 1"])
def test_what_is_not_wrong_can_be_read_all_the_same(tmp_path: Path, broken: str) -> None:
    file = tmp_path / "brookbox.yaml"
    file.write_text(f"node:\n  data_root: /srv/brookbox  # ours\n{broken}\n")
    found, mistakes = settings_file.read(file, tmp_path, {})
    assert mistakes and found.data_root == Path("/srv/brookbox")


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environment = {"BROOKBOX_RECEIVER_PORT": "104", "BROOKBOX_NODE_AE_TITLE": "0123"}
    settings = load(tmp_path, "receiver:\n  port: 105\n", environment)
    assert (settings.receiver.port, settings.node.ae_title) == (104, "0123")


def test_ae_titles_stay_as_they_are_written(tmp_path: Path) -> None:
    text = (
        "node:\n  ae_title: 0123\n"
        "receiver:\n  allow_calling: [0123, ON, 1_0, 'A B']\n"
        "completeness:\n  senders: {007: 5}\n"
    )
    settings = load(tmp_path, text)
    assert settings.node.ae_title == "0123"
    assert settings.receiver.allow_calling == ("0123", "ON", "1_0", "A B")
    assert settings.completeness.senders == {"007": 5.0}
    settings = load(tmp_path, "", {"BROOKBOX_RECEIVER_ALLOW_CALLING": "[007, OFF]"})
    assert settings.receiver.allow_calling == ("007", "OFF")


def test_a_wrong_override_is_told_too(tmp_path: Path) -> None:
    environment = {"BROOKBOX_RECEIVER_PROT": "104", "BROOKBOX_WEB_PORT": "x"}
    assert mistakes(tmp_path, "", environment) == [
        "BROOKBOX_RECEIVER_PROT: no setting has this override. "
        "Did you mean BROOKBOX_RECEIVER_PORT?",
        "BROOKBOX_WEB_PORT: web.port must be a whole number, not 'x'.",
    ]


def test_a_reload_changes_what_may_change_and_names_the_rest(tmp_path: Path) -> None:
    old = load(tmp_path, "receiver:\n  port: 104\n")
    new = load(tmp_path, "receiver:\n  port: 105\n  max_associations: 3\n")
    assert settings_file.changes(old, new) == (["receiver.max_associations"], ["receiver.port"])
    merged = settings_file.with_live_changes(old, new)
    assert (merged.receiver.port, merged.receiver.max_associations) == (104, 3)


def test_a_broken_file_leaves_the_old_settings(tmp_path: Path) -> None:
    old = load(tmp_path, "receiver:\n  max_associations: 3\n")
    (tmp_path / "brookbox.yaml").write_text("receiver: [")
    assert settings_file.reloaded(old) is old
