from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dicom import pdu
from appliance.receiver.admission import Accept, Load, Reject, Request, decide
from appliance.receiver.request import unreadable_ae_title
from appliance.settings import Jobs, Node, Receiver, Settings
from appliance.streams.catalog import Streams, read_streams


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    infos: tuple[dict[str, object], ...] = (
        {"AETitle": "ProcPics", "level": "series"},
        {"AETitle": "OFF", "enabled": 0},
        {"AETitle": "BROKEN", "lanes": "many"},
        {"AETitle": "SMALL", "max_waiting": 1},
    )
    for number, info in enumerate(infos):
        folder = tmp_path / f"s{number}"
        folder.mkdir()
        facts = {"command": ["true"], "trusted": True, **info}
        (folder / "info.json").write_text(json.dumps(facts))
    return read_streams(tmp_path)


def ask(
    streams: Streams,
    called: str = "ProcPics",
    calling: str = "CT1",
    address: str = "10.1.2.3",
    *,
    load: Load | None = None,
    echo: bool = False,
    rules: Receiver | None = None,
    jobs: Jobs | None = None,
) -> Accept | Reject:
    settings = Settings(
        node=Node(ae_title="BROOKBOX"), receiver=rules or Receiver(), jobs=jobs or Jobs()
    )
    return decide(Request(called, calling, address, echo), streams, settings, load or Load())


def code(verdict: Accept | Reject) -> tuple[int, int, int]:
    assert isinstance(verdict, Reject), verdict
    assert verdict.sentence
    return verdict.result, verdict.source, verdict.reason


def test_outer_spaces_do_not_count_and_the_level_is_the_streams(streams: Streams) -> None:
    assert ask(streams, " ProcPics  ", "CT1   ") == Accept("ProcPics", "CT1", "series")
    assert ask(streams, "ProcPics\0\0", "CT1\0") == Accept("ProcPics", "CT1", "series")
    assert ask(streams, "BROOKBOX") == Accept("BROOKBOX", "CT1", None)


@pytest.mark.parametrize(
    ("called", "words"),
    [
        ("NOBODY", "No stream has the AE title NOBODY."),
        ("PROCPICS", "Did you mean ProcPics?"),
        ("brookbox", "Did you mean BROOKBOX?"),
        ("OFF", '"enabled": 0'),
        ("BROKEN", "lanes"),
        ("", "(empty)"),
    ],
)
def test_a_called_ae_title_that_does_not_serve_is_1_1_7(
    streams: Streams, called: str, words: str
) -> None:
    verdict = ask(streams, called)
    assert code(verdict) == (1, 1, 7)
    assert isinstance(verdict, Reject)
    assert words in verdict.sentence


def test_a_switched_off_stream_is_1_1_7(streams: Streams) -> None:
    assert code(ask(streams, load=Load(switched_off=frozenset({"ProcPics"})))) == (1, 1, 7)


@pytest.mark.parametrize("calling", ["", "   ", "A\\B", "A\x07", "A\x7f", "é", "A" * 17])
def test_a_malformed_calling_ae_title_is_1_1_3(streams: Streams, calling: str) -> None:
    assert code(ask(streams, calling=calling)) == (1, 1, 3)
    assert code(ask(streams, calling=calling, echo=True)) == (1, 1, 3)


def test_who_may_not_connect_is_1_1_3_before_he_learns_of_any_stream(streams: Streams) -> None:
    rules = Receiver(allow_calling=("CT2",))
    assert code(ask(streams, "NOBODY", rules=rules)) == (1, 1, 3)
    assert isinstance(ask(streams, calling="CT2", rules=rules), Accept)
    rules = Receiver(allow_addresses=("10.1.0.0/16", "fd00::/8"))
    assert isinstance(ask(streams, rules=rules), Accept)
    assert code(ask(streams, address="10.2.0.1", rules=rules)) == (1, 1, 3)
    assert isinstance(ask(streams, address="fd00::1", rules=rules), Accept)
    assert code(ask(streams, rules=Receiver(allow_addresses=("nonsense",)))) == (1, 1, 3)


def test_behind_nat_no_address_is_refused_and_calling_ae_titles_still_count(
    streams: Streams,
) -> None:
    rules = Receiver(allow_addresses=("10.1.0.0/16",), behind_nat=True)
    assert isinstance(ask(streams, address="10.2.0.1", rules=rules), Accept)
    rules = Receiver(allow_calling=("CT2",), behind_nat=True)
    assert code(ask(streams, address="10.2.0.1", rules=rules)) == (1, 1, 3)


def test_no_room_is_2_3_1_but_an_echo_is_answered(streams: Streams) -> None:
    load = Load(hindrance="The data volume is full.")
    assert code(ask(streams, load=load)) == (2, 3, 1)
    assert code(ask(streams, "BROOKBOX", load=load)) == (2, 3, 1)
    assert isinstance(ask(streams, load=load, echo=True), Accept)


def test_too_many_waiting_studies_are_2_3_1_for_that_stream_alone(streams: Streams) -> None:
    load = Load(waiting={"ProcPics": 3, "SMALL": 1})
    assert code(ask(streams, load=load, jobs=Jobs(max_waiting=3))) == (2, 3, 1)
    assert isinstance(ask(streams, load=load, jobs=Jobs(max_waiting=4)), Accept)
    assert code(ask(streams, "SMALL", load=load)) == (2, 3, 1)
    assert isinstance(ask(streams, "BROOKBOX", load=load, jobs=Jobs(max_waiting=1)), Accept)


def test_too_many_associations_are_2_3_2(streams: Streams) -> None:
    rules = Receiver(max_associations=2)
    assert isinstance(ask(streams, load=Load(open_associations=1), rules=rules), Accept)
    assert code(ask(streams, load=Load(open_associations=2), rules=rules)) == (2, 3, 2)


@given(st.text(max_size=20), st.text(max_size=20), st.ip_addresses().map(str), st.booleans())
def test_it_never_raises(called: str, calling: str, address: str, echo: bool) -> None:
    rules = Receiver(allow_addresses=("10.0.0.0/8",))
    verdict = ask(Streams(), called, calling, address, echo=echo, rules=rules)
    assert isinstance(verdict, Accept | Reject)
    if isinstance(verdict, Reject):
        assert verdict.sentence.isprintable()


def test_a_request_that_pynetdicom_cannot_read_is_known_by_its_bytes() -> None:
    def request(called: bytes, calling: bytes) -> bytes:
        return b"\1\0\0\0\0\0\0\1\0\0" + called.ljust(16) + calling.ljust(16) + bytes(32)

    assert unreadable_ae_title(request(b"ECHO", b"CT1")) == ""
    assert unreadable_ae_title(request(b"ECHO", b"")) == "calling"
    assert unreadable_ae_title(request(b"ECHO", b"C\xc4T")) == "calling"
    assert unreadable_ae_title(request(b"", b"CT1")) == "called"
    assert unreadable_ae_title(request(b"", b"")) == "calling"
    assert unreadable_ae_title(b"\1\0") == ""
    assert pdu.reject(1, 1, 3) == b"\3\0\0\0\0\4\0\1\1\3"
