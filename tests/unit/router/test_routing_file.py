"""routing.yaml is read as written, and every mistake in it is told with its line."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from appliance.errors import RoutingError
from appliance.router import own_node, routing_file
from appliance.router.rules import Routing
from appliance.settings import Node, Receiver, Settings

SAMPLE = Path(__file__).resolve().parents[3] / "config" / "routing.example.yaml"
PACS = "destinations:\n  pacs: {ae_title: PACS, host: 192.0.2.1, port: 104}\n"


def parse(text: str, settings: Settings | None = None) -> Routing:
    return routing_file.parse(text, settings or Settings(), "routing.yaml")


def mistakes(text: str) -> list[str]:
    with pytest.raises(RoutingError) as caught:
        parse(text)
    assert "brookbox routing check" in caught.value.remedy
    return str(caught.value).splitlines()


def test_the_sample_is_accepted_and_shows_every_key() -> None:
    text = SAMPLE.read_text()
    routing = parse(text)
    assert list(routing.destinations) == ["pacs", "workstation"]
    assert len(routing.rules) == 3
    unshown = [
        key
        for key in (*routing_file.DESTINATION_KEYS, *routing_file.RULE_KEYS)
        if f"{key}:" not in text
    ]
    assert unshown == []


@pytest.mark.parametrize("text", ["", "# nothing\n", "destinations:\nrules:\n", "{}"])
def test_an_empty_file_holds_no_rules(text: str) -> None:
    assert parse(text).rules == ()


def test_a_file_that_is_not_there_holds_no_rules(tmp_path: Path) -> None:
    assert routing_file.load(Settings(home=tmp_path)).rules == ()


def test_what_is_left_out_comes_from_the_settings() -> None:
    pacs = parse(PACS, Settings(node=Node(ae_title="LAB"))).destinations["pacs"]
    assert (pacs.own_ae_title, pacs.associations, pacs.answer_timeout_seconds) == ("LAB", 1, 120)


def test_text_is_taken_as_it_is_written() -> None:
    text = "destinations: {no: {ae_title: NO, host: 192.0.2.1, port: 0104, own_ae_title: 007}}"
    made = parse(text).destinations["no"]
    assert (made.ae_title, made.own_ae_title, made.port) == ("NO", "007", 104)


def test_every_mistake_is_told_at_once_with_its_line() -> None:
    text = (
        "destinations:\n"
        "  pacs:\n"
        "    ae_title: A\\B\n"
        "    hots: 192.0.2.1\n"
        "    port: 99999\n"
        "rules:\n"
        "  - name: one\n"
        "    to: pasc\n"
        "    calling: '('\n"
        "    outcome: [sucess]\n"
        "    tags: {Modalty: CT}\n"
        "  - stop: perhaps\n"
        "  - name: one\n"
        "    to: [pacs]\n"
        "rulez: []\n"
    )
    found = mistakes(text)
    assert [int(line.split(":")[1]) for line in found] == [2, 3, 4, 5, 8, 9, 10, 11, 12, 12, 15]
    assert "Did you mean host?" in found[2]
    assert "Did you mean pacs?" in found[4]
    assert "Did you mean success?" in found[6]
    assert "Did you mean Modality?" in found[7]
    assert "rules[2] needs name and to" in " ".join(found[8:10])


def test_a_name_that_is_there_twice_is_a_mistake() -> None:
    twice = PACS + "  pacs: {ae_title: B, host: 192.0.2.2, port: 1}\n"
    assert "it is taken" in mistakes(twice)[0]
    rules = PACS + "rules:\n  - {name: a, to: pacs}\n  - {name: a, to: pacs}\n"
    assert "routing.yaml:5: a rule a stands here a second time." in mistakes(rules)


@pytest.mark.parametrize(
    "text", ["a: [", "\t- x", "just words", "- list", "a: &a [*a]", "[" * 5000]
)
def test_what_is_no_routing_file_is_refused_with_a_line(text: str) -> None:
    assert mistakes(text)[0].startswith("routing.yaml:1: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1"])
def test_a_destination_that_is_this_node_is_refused(host: str) -> None:
    port = Receiver().port
    text = f"destinations: {{me: {{ae_title: X, host: '{host}', port: {port}}}}}"
    assert "is this node itself" in mistakes(text)[0]


def test_this_node_is_known_by_its_host_name_too() -> None:
    assert own_node.addresses_of(socket.gethostname()), "this machine's name must resolve"
    text = f"destinations: {{me: {{ae_title: X, host: {socket.gethostname()}, port: 11113}}}}"
    assert "is this node itself" in mistakes(text)[0]


@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("127.0.0.1", 4730, "which Brookbox uses for something else"),
        ("127.0.0.1", 2813, "which Brookbox uses for something else"),
        ("169.254.169.254", 80, "no address of a DICOM node"),
        ("0.0.0.0", 104, "no address of a DICOM node"),
        ("fe80::1", 104, "no address of a DICOM node"),
        ("224.0.0.1", 104, "no address of a DICOM node"),
    ],
)
def test_an_address_that_no_peer_has_is_refused(host: str, port: int, why: str) -> None:
    text = f"destinations: {{x: {{ae_title: X, host: '{host}', port: {port}}}}}"
    assert why in mistakes(text)[0]


def test_another_node_on_this_machine_is_a_destination() -> None:
    assert parse("destinations: {x: {ae_title: X, host: 127.0.0.1, port: 4242}}").destinations


@pytest.mark.parametrize("name", ["SeriesDescription", "0008,103E", "(0008,103e)", "0008103E"])
def test_a_tag_is_named_by_keyword_or_number(name: str) -> None:
    text = PACS + f"rules:\n  - {{name: r, to: pacs, tags: {{'{name}': x}}}}\n"
    assert parse(text).rules[0].tags[0][0].tag == 0x0008103E


def test_a_sequence_is_no_tag_to_match() -> None:
    text = PACS + "rules:\n  - {name: r, to: pacs, tags: {SourceImageSequence: x}}\n"
    assert "names the sequence" in mistakes(text)[0]
