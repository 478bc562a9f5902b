"""BI-22: a stream folder that is wrong is shown with reason and line, and harms no other."""

from __future__ import annotations

import html
import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import violations
from tests.kit import dicom, peers
from tests.kit.node import Node
from tests.kit.scripts import HELD, QUICK
from tests.kit.waiting import wait_for
from tests.service.receiver.peer import rejection

FOR_GOOD = (1, 1, 7)  # called AE title not recognised (PS3.8 9.3.4)
RUNS = '"command": ["python3", "run.py"], "trusted": true'

# Folder: what stands in info.json, the AE title that it means, what is said of it.
WRONG: dict[str, tuple[str | bytes, str, str]] = {
    "no-json": ('{"AETitle": "NO_JSON",\n "name": }', "NO_JSON",
                "info.json:2: This is not JSON: Expecting value."),
    "bom": ("\ufeff" + f'{{"AETitle": "BOM", {RUNS}}}', "BOM",
            "info.json:1: It begins with a byte order mark: save it as UTF-8 without one."),
    "utf-16": (f'{{"AETitle": "UTF16", {RUNS}}}'.encode("utf-16"), "UTF16",
               "info.json:1: It begins with a byte order mark: save it as UTF-8 without one."),
    "latin-1": (f'{{"AETitle": "LATIN", {RUNS},\n"name": "K\xf6pfe"}}'.encode("latin-1"), "LATIN",
                "info.json:2: It is not UTF-8 text."),
    "comment": (f'{{"AETitle": "COMMENT", {RUNS}\n// ours\n}}', "COMMENT",
                "info.json:2: This is not JSON: Expecting ',' delimiter."),
    "twice": (f'{{"AETitle": "TWICE", {RUNS},\n"lanes": 1,\n"lanes": 2}}', "TWICE",
              "info.json:3: lanes stands here a second time."),
    "too-long": (f'{{{RUNS},\n"AETitle": "SEVENTEEN_LETTERS"}}', "SEVENTEEN_LETTER",
                 "info.json:2: AETitle: must be 1 to 16 printable ASCII characters without "
                 "backslash."),
    "no-title": (f'{{{RUNS},\n"AETitle": ""}}', "",
                 "info.json:2: AETitle: must be 1 to 16 printable ASCII characters without "
                 "backslash."),
    "empty": ("", "EMPTY", "info.json:1: This is not JSON: Expecting value."),
    "no-image": ('{"AETitle": "NO_IMAGE", "command": ["python3", "run.py"]}', "NO_IMAGE",
                 'info.json: image is missing; without one a stream must say "trusted": true.'),
    "unknown": (f'{{"AETitle": "UNKNOWN", {RUNS},\n"memory_bg": 2}}', "UNKNOWN",
                "info.json:2: memory_bg is not a key of info.json. Did you mean memory_gb?"),
    "large": (f'{{"AETitle": "LARGE", {RUNS}, "description": "{"x" * 5_000_000}"}}', "LARGE",
              "info.json: It is 5000090 bytes long; 1 MB is the most."),
    "double": (f'{{"name": "like one that serves",\n"AETitle": " QUICK ", {RUNS}}}', "",
               "info.json:2: AETitle QUICK is also that of quick."),
}  # fmt: skip


@dataclass
class Looked:
    """What a running node says of its streams, by folder, in each place where it says it."""

    page: str
    api: dict[str, list[str]] = field(default_factory=dict)
    checked: dict[str, list[str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that serves QUICK, into which every wrong folder was dropped while it ran."""
    node = Node(tmp_path_factory.mktemp("wrong") / "node", {"worker": {"docker": "never"}}, ())
    node.start(120)
    node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
    node.wait_for_stream("QUICK")
    for name, (text, _, _) in WRONG.items():
        drop(node, name, text)
    streams = node.home / "streams"
    (streams / "link").symlink_to(streams / "quick")
    (streams / "circle").symlink_to(streams / "circle")
    (streams / "unreadable" / "info.json").mkdir(parents=True)
    (streams / os.fsdecode(b"\xff-name")).mkdir()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def looked(node: Node) -> Looked:
    """What the node says once it has seen every folder."""
    wanted = len(WRONG) + 5

    def seen() -> dict[str, list[str]]:
        found = {
            one["folder"]: [_said(p) for p in one["problems"] if p["stops"]]
            for one in node.get("/api/v1/streams")["streams"]
        }
        return found if len(found) == wanted else {}

    api = wait_for(seen, "every folder is listed")
    with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}/streams", timeout=20) as answer:
        page = html.unescape(answer.read().decode())
    told = json.loads(node.cli("--json", "streams", "check").stdout)
    return Looked(page, api, {Path(one["folder"]).name: one["problems"] for one in told})


def drop(node: Node, name: str, text: str | bytes) -> Path:
    """Put a folder with this info.json among the streams, in one move."""
    part = node.home / f"part-{name}"
    part.mkdir()
    (part / "run.py").write_text(QUICK)
    (part / "info.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return part.rename(node.home / "streams" / name)


def _said(problem: dict[str, Any]) -> str:
    line = "" if problem["line"] is None else f":{problem['line']}"
    return f"{problem['file']}{line}: {problem['sentence']}"


@pytest.mark.parametrize("name", WRONG)
def test_bi_22_it_is_listed_with_reason_and_line_and_its_ae_title_is_refused(
    node: Node, looked: Looked, name: str
) -> None:
    _, ae_title, wanted = WRONG[name]
    assert looked.api[name] == [wanted]
    assert wanted in looked.page
    assert looked.checked[name] == [wanted], "streams check says it in the same words"
    if ae_title:
        assert rejection(node, ae_title) == FOR_GOOD  # type: ignore[arg-type]
    log = (node.layout.logs / "dispatcher.log").read_text()
    wait_for(lambda: json.dumps(wanted)[1:-1] in log_of(node), f"{name} is in the log\n{log}")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("link", "info.json: The folder is a link: copy it."),
        ("circle", "info.json: The folder is a link: copy it."),
        ("unreadable", "info.json: There is no info.json in this folder."),
        ("\ufffd-name", "info.json: The folder's name is not UTF-8: rename it."),
    ],
)
def test_bi_22_what_is_no_folder_of_ours_is_listed_too(
    looked: Looked, name: str, wanted: str
) -> None:
    assert looked.api[name] == looked.checked[name] == [wanted]
    assert wanted in looked.page


def test_bi_22_doctor_names_them_and_the_others_work_on(
    node: Node, looked: Looked, tmp_path: Path
) -> None:
    found = json.loads(node.cli("--json", "doctor").stdout)["findings"]
    told = " ".join(one["sentence"] for one in found)
    assert all(wanted in told for _, _, wanted in WRONG.values())
    report = node.send(dicom.write_study(dicom.ct_study(2), tmp_path), "QUICK")
    node.wait_for_jobs(1, "succeeded", ae_title="QUICK")
    assert violations(node, {"QUICK": [report]}) == []
    assert "not expected" not in (node.layout.logs / "supervisord.log").read_text()


def test_bi_22_ae_titles_that_differ_in_case_are_two_streams_with_a_warning(node: Node) -> None:
    node.add_stream("Other", QUICK)
    drop(node, "upper", json.dumps({"command": ["python3", "run.py"], "trusted": True,
                                    "AETitle": "OTHER"}, indent=1))  # fmt: skip
    node.wait_for_stream("Other")
    node.wait_for_stream("OTHER")
    [told] = node.cli_json("streams", "check", "upper")
    assert told["good"]
    assert told["problems"] == [
        "info.json:7: Another stream's AETitle differs from OTHER only in case."
    ]
    assert rejection(node, "oTHER") == FOR_GOOD  # type: ignore[arg-type]


def test_bi_22_what_is_changed_while_a_job_runs_ends_its_ae_title_and_not_the_job(
    node: Node, tmp_path: Path
) -> None:
    folder = node.add_stream("EDITED", HELD, quiet_seconds=0.5)
    node.wait_for_stream("EDITED")
    node.send(dicom.write_study(dicom.ct_study(1), tmp_path), "EDITED")
    [job] = node.wait_for_jobs(1, "running", ae_title="EDITED")
    good = (folder / "info.json").read_text()
    (folder / "info.json").write_text(good.replace("{", "{ oh", 1))
    wait_for(lambda: rejection(node, "EDITED") == FOR_GOOD, "it is refused")  # type: ignore[arg-type]
    (folder / "gate").touch()
    node.wait_for_jobs(1, "succeeded", ae_title="EDITED")
    assert node.job(job.id).state == "succeeded"
    (folder / "info.json").write_text(good)
    wait_for(lambda: peers.echoscu(node.port, "EDITED"), "it serves again")


def test_bi_22_a_folder_that_is_copied_in_slowly_is_served_once_it_is_whole(node: Node) -> None:
    info = json.dumps({
        "AETitle": "SLOW", "command": ["python3", "run.py"], "trusted": True, "name": "x" * 100,
    })  # fmt: skip
    folder = node.home / "streams" / "slow"
    folder.mkdir()
    listed: list[dict[str, Any]] = []
    with (folder / "info.json").open("w") as file:
        for start in range(0, len(info), 40):
            file.write(info[start : start + 40])
            file.flush()
            listed += [s for s in node.get("/api/v1/streams")["streams"] if s["folder"] == "slow"]
    assert all(one["state"] == "broken" for one in listed), "what is not whole does not serve"
    node.wait_for_stream("SLOW")
    assert node.cli_json("streams", "check", "slow")[0]["problems"] == []


def test_bi_22_of_a_doubled_ae_title_none_serves_after_a_start(node: Node) -> None:
    """The last one: the node is started anew."""
    assert peers.echoscu(node.port, "QUICK"), "what served already goes on"
    node.stop()
    node.start(120)
    wait_for(lambda: rejection(node, "QUICK") == FOR_GOOD, "none serves")  # type: ignore[arg-type]
    told = json.loads(node.cli("--json", "streams", "check").stdout)
    doubled = {Path(o["folder"]).name: o["problems"] for o in told if o["ae_title"] == "QUICK"}
    assert doubled == {
        "quick": ["info.json:2: AETitle QUICK is also that of double."],
        "double": ["info.json:2: AETitle QUICK is also that of quick."],
    }
    shutil.rmtree(node.home / "streams" / "double")
    node.wait_for_stream("QUICK")
    assert peers.echoscu(node.port, "QUICK")


def log_of(node: Node) -> str:
    return (node.layout.logs / "dispatcher.log").read_text("utf-8", "replace")
