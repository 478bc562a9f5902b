"""Hostile text, AE titles and polyglots, all the way: reception, job, pages, command line, logs."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from appliance.disk.studies import dataset_digest
from appliance.index import catalog
from appliance.index.jobs import Job
from tests.faults.checker import Acknowledged, Evidence, check
from tests.kit.dicom import ct_slice, write
from tests.kit.node import Node
from tests.kit.scripts import QUICK

SCRIPT, SQL, TEMPLATE, FORMAT = "<script>alert(1)</script>", "' OR 1=1--", "{{7*7}}", "%s%n%d"
BIDI, ANSI = "abc\N{RIGHT-TO-LEFT OVERRIDE}fed", "\x1b[31mred\x1b[0m"
CALLING = "../../etc/passwd"  # 16 characters, and an AE title by PS3.5 6.2


@dataclass
class Hostile:
    """A node that did one job of a study full of hostile text."""

    node: Node
    ds: Dataset
    file: Path
    job: Job

    def page(self, path: str) -> tuple[str, Message]:
        """Give a page's body, and its headers."""
        url = f"http://127.0.0.1:{self.node.web_port}{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read().decode("utf-8", "replace"), answer.headers


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    folder = tmp_path_factory.mktemp("hostile")
    node = Node(folder / "node", {"worker": {"docker": "never"}}, ()).start()
    try:
        node.add_stream("QUICK", QUICK, quiet_seconds=0.5)
        node.wait_for_stream("QUICK")
        ds = ct_slice(patient_name=f"{SCRIPT}^{TEMPLATE}", patient_id=SQL)
        ds.StudyDescription, ds.SeriesDescription = f"{FORMAT} {BIDI}", f"{ANSI} {TEMPLATE}"
        ds.ReferringPhysicianName, ds.AccessionNumber = SCRIPT, SQL
        # 1 MB of LT, which only implicit elements can hold.
        ds[0x00104000] = DataElement(0x00104000, "LT", "x" * 1_000_000, validation_mode=IGNORE)
        file = write(ds, folder / "hostile.dcm", ImplicitVRLittleEndian)
        raw = file.read_bytes()
        file.write_bytes(b"#!/bin/sh\n".ljust(128, b"\0") + raw[128:])
        report = node.send([file], "QUICK", CALLING, "-xi")
        assert report.acknowledged == [file], report.text
        (job,) = node.wait_for_jobs(1, "succeeded")
        yield Hostile(node, ds, file, job)
    finally:
        node.stop()


def test_bi_06_hostile_text_is_stored_as_it_is(hostile: Hostile) -> None:
    (row,) = hostile.node.get(f"/api/v1/jobs?q={urllib.parse.quote(SQL)}")["jobs"]
    assert row["id"] == hostile.job.id
    stored = [
        path for path in hostile.node.layout.studies.rglob("*.dcm")
        if path.stem == hostile.ds.SOPInstanceUID
    ]  # fmt: skip
    assert [dataset_digest(path) for path in stored] == [dataset_digest(hostile.file)]
    told = [Acknowledged(hostile.file, "QUICK")]
    assert check(Evidence(hostile.node.layout.root, hostile.node.db, told, is_quiet=False)) == []


def test_bi_06_every_page_shows_text_and_runs_none(hostile: Hostile) -> None:
    job = f"/jobs/{hostile.job.id}"
    pages = ["/", "/jobs", job, "/arrivals", "/activity", "/deliveries", "/streams"]
    shown = 0
    for path in [*pages, "/jobs?q=" + urllib.parse.quote(SCRIPT)]:
        body, _ = hostile.page(path)
        assert "<script>alert" not in body, path
        assert "\x1b" not in body, path
        assert "49^" not in body and ">49<" not in body, path
        shown += "&lt;script&gt;alert(1)" in body
    assert shown >= 2, "the pages show the name"


def test_bi_06_a_terminal_is_given_no_control_characters(hostile: Hostile) -> None:
    for words in (("jobs", "list"), ("jobs", "show", str(hostile.job.id)), ("arrivals", "list"),
                  ("why", hostile.ds.StudyInstanceUID), ("status",)):  # fmt: skip
        done = hostile.node.cli(*words)
        assert done.returncode == 0, done.stderr
        for bad in ("\x1b[31m", "\N{RIGHT-TO-LEFT OVERRIDE}"):
            assert bad not in done.stdout + done.stderr, words


def test_bi_06_logs_hold_no_control_characters_and_no_name(hostile: Hostile) -> None:
    lines = 0
    for path in hostile.node.layout.logs.glob("receiver*.log*"):
        raw = path.read_bytes()
        assert b"\x1b" not in raw
        assert SCRIPT.encode() not in raw
        for line in raw.decode().splitlines():
            lines += isinstance(json.loads(line), dict)
    assert lines > 0


def test_bi_05_a_calling_ae_title_is_shown_and_never_a_path(hostile: Hostile) -> None:
    root = hostile.node.layout.root
    assert not [path for path in root.rglob("*") if "etc" in path.name or "passwd" in path.name]
    (row,) = hostile.node.get("/api/v1/arrivals")["closed"]
    assert CALLING in json.dumps(row)
    body, _ = hostile.page(f"/jobs/{hostile.job.id}")
    assert CALLING in body


def test_bi_17_a_result_is_saved_never_shown_and_begins_with_zeros(hostile: Hostile) -> None:
    with hostile.node.db.read() as connection:
        (result,) = catalog.results_of(connection, hostile.job.id)
    for stored in hostile.node.layout.studies.rglob("*.dcm"):
        assert stored.read_bytes()[:132] == bytes(128) + b"DICM"
    _, headers = hostile.page(f"/jobs/{hostile.job.id}/results/{result.sop_instance_uid}")
    assert headers["Content-Type"] == "application/dicom"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Disposition"].startswith("attachment")
