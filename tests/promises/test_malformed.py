"""Malformed data sets by C-STORE and by `brookbox send store`: a status each, and no harm.

The node is a whole one; what is refused can be read afterwards on its pages and on the
command line, and what is held can be taken in there.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import _config, evt

from tests.journeys.conftest import violations
from tests.kit import dicom, malformed
from tests.kit.malformed import KEPT, Malformed
from tests.kit.node import Node
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for
from tests.service.receiver.peer import associate, c_store, wire

MOST_CPU_SECONDS = 1.0
ALL = [*malformed.made(), *malformed.of_pydicom()]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node none of whose processes dies of it."""
    node = Node(tmp_path_factory.mktemp("malformed") / "node", {"worker": {"docker": "never"}}, ())
    node.start(120)
    yield node
    logs = node.layout.logs
    node.stop()
    told = (logs / "receiver.log").read_text()
    assert "Traceback" not in told and "a receiving process died" not in told
    assert "not expected" not in (logs / "supervisord.log").read_text()


@pytest.fixture
def lax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pynetdicom send what it would refuse to send."""
    for kind in ("UI", "AE"):
        monkeypatch.setitem(_config.VALIDATORS, kind, lambda value: (True, ""))


def stored(node: Node, one: Malformed) -> int:
    """Send a data set as it is; the status that it gets."""
    answers: list[int] = []
    heard = [(evt.EVT_DIMSE_RECV, lambda e: answers.append(e.message.command_set.Status))]
    context = (one.sop_class_uid, one.transfer_syntax_uid)
    assoc = associate(node, "BROOKBOX", contexts=(context,), handlers=heard)  # type: ignore[arg-type]
    assert assoc.is_established
    wire(assoc).sendall(b"".join(c_store(one.sop_class_uid, one.sop_instance_uid, one.data)))
    wait_for(lambda: answers, f"an answer to {one}")
    assoc.release()
    return answers[0]


def cpu_seconds(node: Node) -> float:
    """Give the CPU time that the receiver and its workers have taken."""
    times = [one.cpu_times() for one in node.processes("receiver")]
    return sum(one.user + one.system for one in times)


@pytest.mark.usefixtures("lax")
@pytest.mark.filterwarnings("ignore:.*VR:UserWarning", "ignore:Invalid value:UserWarning")
@pytest.mark.parametrize("one", ALL, ids=str)
def test_each_gets_its_status_and_costs_little(node: Node, one: Malformed) -> None:
    cpu, known = cpu_seconds(node), {entry["id"] for entry in listed(node)}
    assert stored(node, one) == one.status
    assert cpu_seconds(node) - cpu < MOST_CPU_SECONDS
    new = [entry for entry in listed(node) if entry["id"] not in known]
    told = [] if one.status == KEPT else [(one.sop_instance_uid, one.status)]
    assert [(entry["sop_instance_uid"], entry["status"]) for entry in new] == told


def test_what_was_refused_can_be_read_on_its_page_and_on_the_command_line(
    node: Node, tmp_path: Path
) -> None:
    refused = [one for one in ALL if one.status != KEPT]
    entries = listed(node)
    assert len(entries) == len(refused), "it runs after the others"
    told = {e["id"]: e for e in node.cli_json("quarantine", "list")}
    for entry, one in zip(reversed(entries), refused, strict=True):
        assert read(node, f"/quarantine/{entry['id']}").decode().count("Try again") == 1
        assert read(node, f"/quarantine/{entry['id']}/file").endswith(one.data)
        assert told[entry["id"]]["reason"] == entry["reason"] != ""
    entry = entries[0]
    shown = node.cli_json("quarantine", "show", entry["id"])
    assert shown["reason"] == entry["reason"] and Path(shown["file"]).exists()
    done = node.cli("quarantine", "get", entry["id"], str(tmp_path / "got.dcm"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got.dcm").read_bytes() == Path(shown["file"]).read_bytes()
    tried = node.cli("quarantine", "retry", entry["id"])
    assert tried.returncode == 1 and tried.stdout.startswith(f"stays {entry['id']}: ")
    assert node.cli_json("quarantine", "show", entry["id"])["tries"] == 1


def test_brookbox_send_store_says_of_each_what_is_wrong(node: Node, tmp_path: Path) -> None:
    files = {}
    for number, one in enumerate(malformed.made()):
        files[tmp_path / f"{number:03}.dcm"] = one
        (tmp_path / f"{number:03}.dcm").write_bytes(one.part10)
    good = dicom.write(dicom.ct_slice(), tmp_path / "good.dcm")
    done = node.cli("--json", "send", "store", f"BROOKBOX@127.0.0.1:{node.port}", str(tmp_path))
    assert done.returncode == 1, "some could not be sent"
    assert "Traceback" not in done.stderr
    results = {Path(one["outgoing"]["path"]): one for one in json.loads(done.stdout)}
    for file, one in files.items():
        is_sent = results[file]["kind"] in ("sent", "warning")
        # What it can walk it sends, whatever the request of another road said of its UIDs.
        assert is_sent == (one.status == KEPT or "than the request" in one.name), one
        assert is_sent or results[file]["sentence"], one
    assert results[good]["kind"] == "sent"
    assert violations(node, {}) == []


def test_what_is_taken_in_on_its_page_is_worked_on_like_what_was_sent(
    node: Node, tmp_path: Path
) -> None:
    node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
    node.wait_for_stream("QUICK")
    one, other = dicom.ct_study(2)
    other.PatientID, other.PatientName = "P-OTHER", "Other^Olga"
    first, second = dicom.write_study([one, other], tmp_path)
    report = node.send([first], "QUICK")
    node.wait_for_jobs(1, "succeeded", ae_title="QUICK")
    assert node.send([second], "QUICK").acknowledged == [second]
    [held] = wait_for(
        lambda: [entry for entry in listed(node) if entry["kind"] == "held"], "it is held"
    )
    asked = urllib.request.Request(
        f"http://127.0.0.1:{node.web_port}/api/v1/quarantine/{held['id']}/take-in",
        data=b"{}", headers={"Content-Type": "application/json"}, method="POST",
    )  # fmt: skip
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert json.load(answer)["is_kept"]
    [_, job] = node.wait_for_jobs(2, "succeeded", ae_title="QUICK")
    assert job.input_count == 2 and not job.incomplete
    assert held["id"] not in {entry["id"] for entry in listed(node)}
    assert violations(node, {"QUICK": [report]}) == []


def listed(node: Node) -> list[dict[str, object]]:
    """Give the whole list of its pages."""
    found: list[dict[str, object]] = []
    older = ""
    while True:
        page = node.get(f"/api/v1/quarantine?before={older}")
        found += page["entries"]
        older = page["older"]
        if not older:
            return found


def read(node: Node, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}{path}", timeout=20) as answer:
        body: bytes = answer.read()
    return body
