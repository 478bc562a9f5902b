"""Settings: one declaration each; every mistake is told at once, with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance import settings_file
from appliance.errors import SettingsError
from appliance.settings_declared import declared, sections

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
    names = {one.name for one in declared()}
    text = "\n".join(
        line.replace("# ", "", 1) if line.strip("# ").split(":")[0] in names else line
        for line in lines
    )
    assert "\n  port: 11113" in text
    loaded, blank = load(tmp_path, text), settings_file.Settings()
    for section in sections():
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


def test_a_setting_that_shares_a_word_with_one_alone_is_meant(tmp_path: Path) -> None:
    text = "alerts:\n  stream_failures: 3\n  mail_port_minutes_days: 1\n  nonsense: 1\n"
    first, second, third = mistakes(tmp_path, text)
    assert first.endswith("is not a setting. Did you mean failures_in_a_row?")
    assert third.endswith("alerts.nonsense is not a setting.")
    assert "is not a setting." in second


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
        ("receiver:\n  max_associations: 2020-13-45\n", "cannot be read as a value"),
        ("worker:\n  cpus: 1" + "0" * 400 + "\n", "must be a number, not 1000"),
        ("worker:\n  memory_gb: 1.0e+300\n", "must be at most 1000000000, not 1e+300"),
        ("housekeeper:\n  results_days: 999999\n", "must be at most 36500, not 999999"),
        ("queue:\n  servers: [127.0.0.1]\n", "must be host:port, such as 127.0.0.1:4730"),
        ("queue:\n  servers: localhost\n", "not 'localhost'"),
        ("queue:\n  servers: ['a:4730', 'b:0']\n", "a port from 1 to 65535, not 'b:0'"),
        ("queue:\n  servers: ['a:99999']\n", "not 'a:99999'"),
        ("queue:\n  servers: ['[::1]:4730']\n", "must be host:port"),
        ("queue:\n  servers: []\n", "must name a server as host:port"),
        ("web:\n  address: not-an-ip\n", "web.address must be an IP address of this machine"),
        ("receiver:\n  address: 127.0.0.1:104\n", "not '127.0.0.1:104'"),
        ("receiver:\n  address: ''\n", "0.0.0.0 is all addresses"),
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


def test_ft_39_a_broken_file_leaves_the_old_settings(tmp_path: Path) -> None:
    old = load(tmp_path, "receiver:\n  max_associations: 3\n")
    (tmp_path / "brookbox.yaml").write_text("receiver: [")
    assert settings_file.reloaded(old) is old


@pytest.mark.parametrize("address", ["localhost", "0.0.0.0", "::", "::1", "10.1.2.3"])
def test_an_address_may_be_a_name_or_of_ipv6(tmp_path: Path, address: str) -> None:
    text = f"receiver:\n  address: '{address}'\nweb:\n  address: '{address}'\n"
    assert load(tmp_path, text).web.address == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "receiver:\n  port: 2813\n",
            "brookbox.yaml:2: web.port and receiver.port are both 2813: each needs its own.",
        ),
        (
            "web:\n  address: localhost\n  port: 4730\n",
            "brookbox.yaml:3: web.port and queue.servers are both 4730: each needs its own.",
        ),
        (
            "housekeeper:\n  high_percent: 70\n",
            "brookbox.yaml:2: housekeeper.high_percent must be above housekeeper.low_percent: "
            "they are 70 and 75.",
        ),
    ],
)
def test_two_good_values_may_contradict_each_other(tmp_path: Path, text: str, said: str) -> None:
    assert mistakes(tmp_path, text + "jobs:\n  max_attempts: 0\n") == [
        f"brookbox.yaml:{len(text.splitlines()) + 2}: jobs.max_attempts must be at least 1, not 0.",
        said,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "queue:\n  start_gearmand: false\nreceiver:\n  port: 4730\n",
        "receiver:\n  port: 2813\n  address: 10.1.2.3\n",
    ],
)
def test_one_port_may_be_used_where_it_is_not_the_same(tmp_path: Path, text: str) -> None:
    load(tmp_path, text)


def test_a_mistake_is_not_told_as_a_contradiction_too(tmp_path: Path) -> None:
    text = "receiver:\n  port: x\nweb:\n  port: 11113\n"
    assert len(mistakes(tmp_path, text)) == 1


def test_a_mistyped_section_of_an_override_is_told(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "", {"BROOKBOX_RECIEVER_PORT": "104", "BROOKBOX_PORT": "104"}) == [
        "BROOKBOX_PORT: no setting has this override. Did you mean BROOKBOX_WEB_PORT?",
        "BROOKBOX_RECIEVER_PORT: no setting has this override. "
        "Did you mean BROOKBOX_RECEIVER_PORT?",
    ]


def test_variables_of_a_service_of_kubernetes_are_no_overrides(tmp_path: Path) -> None:
    given = {
        "BROOKBOX_SERVICE_HOST": "10.0.0.7",
        "BROOKBOX_PORT": "tcp://10.0.0.7:11113",
        "BROOKBOX_PORT_11113_TCP_ADDR": "10.0.0.7",
    }
    assert load(tmp_path, "", given).receiver.port == 11113


def test_every_variable_that_brookbox_uses_is_known() -> None:
    known = settings_file.NO_OVERRIDES | {one.variable for one in declared()}
    folders = ("appliance", "web", "streams", "packaging", "tests/kit", ".ci")
    files = [path for folder in folders for path in (CHECKOUT / folder).rglob("*")]
    text = "\n".join(
        path.read_text()
        for path in files
        if path.is_file() and path.suffix in ("", ".py", ".sh", ".md")
    )
    assert set(re.findall(r"\bBROOKBOX_[A-Z_]*[A-Z]\b", text)) - known <= {
        "BROOKBOX_SERVICE_HOST", "BROOKBOX_PORT",  # of Kubernetes
    }  # fmt: skip
