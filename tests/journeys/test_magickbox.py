"""MagickBox's streams run unchanged when they are dropped into a running node.

A docker bucket is an image with /root/work.sh; a host stream is a folder with a work.sh.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pydicom
import pytest

from appliance.worker.container import Docker
from tests.journeys.conftest import NodeMaker, violations
from tests.kit import dicom, engine, peers
from tests.kit.node import Node
from tests.kit.peers import Pacs, SendReport
from tests.kit.waiting import wait_for

# One new instance from the first of the input, as a stream's author would write it.
MAKE = """
import pathlib, sys
import pydicom
source, target = map(pathlib.Path, sys.argv[1:])
ds = pydicom.dcmread(sorted(source.iterdir())[0])
ds.SeriesInstanceUID = pydicom.uid.generate_uid()
ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
ds.SeriesNumber, ds.SeriesDescription = "9000", "made by work.sh"
ds.save_as(target / "result")
"""

# It is root, keeps things in /root, and works on its input in place.
BUCKET = """\
#!/bin/bash
echo "called with $# words as $(id -u)"
cd /root && date > last-run && cp -r "$1" /root/work || exit 1
python3 /root/make.py /root/work "$2"
for file in "$1"/*; do echo "overwritten" > "$file"; done
echo "input is now $(cat "$1"/* | sort -u)"
touch "$1/added"
"""
DOCKERFILE = f"""\
ARG BASE
FROM {engine.GROUND}
COPY work.sh make.py /root/
CMD ["/bin/false"]
"""

NEW_HOST = f"""\
#!/bin/bash
read -r INPUT OUTPUT <<< "$1"
echo "new template, $# argument"
{sys.executable} "$(dirname "$0")/make.py" "$INPUT" "$OUTPUT"
for file in "$INPUT"/*; do echo "overwritten" > "$file"; done
"""
OLD_HOST = f"""\
#!/bin/bash
set -- $1
LOG=$1/../processing.log
echo "old template" > $LOG
mkdir -p $1/../OUTPUT
{sys.executable} "$(dirname "$0")/make.py" $1 $1/../OUTPUT >> $LOG 2>&1
for file in $1/*; do echo "overwritten" > $file; done
echo "old template ends" >> $LOG
"""


def drop_in(node: Node, ae_title: str, files: dict[str, str], **info: Any) -> None:
    """Move a whole folder into streams/, wait until it is served, and print how long that took."""
    part = node.home / f"part-{ae_title}"
    part.mkdir()
    # The keys of its authors, one of which is not ours.
    facts = {"AETitle": ae_title, "name": ae_title, "enabled": 1, "lastChanged": "2014", **info}
    (part / "info.json").write_text(json.dumps(facts))
    for name, text in files.items():
        (part / name).write_text(text)
        (part / name).chmod(0o755)
    # The worker runs and has looked at the folder: it serves what was there before.
    node.wait_for_stream("ECHO")
    part.rename(node.home / "streams" / ae_title)
    began = time.monotonic()
    node.wait_for_stream(ae_title)
    wait_for(lambda: peers.echoscu(node.port, ae_title), f"{ae_title} is listened for")
    print(f"{ae_title} was served {time.monotonic() - began:.2f} s after it was dropped in")


def sent(node: Node, ae_title: str, folder: Path) -> tuple[SendReport, dict[Path, str]]:
    """Send a study; give what was answered, and the digests of the archive before its job runs."""
    report = node.send(dicom.write_study(dicom.ct_study(3), folder), ae_title)
    assert len(report.acknowledged) == 3
    before = digests(node.layout.studies)
    assert node.jobs(ae_title) == []
    return report, before


def digests(folder: Path) -> dict[Path, str]:
    """Give the SHA-256 of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def page(node: Node) -> str:
    """Give the page of the streams as text in one line."""
    with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}/streams", timeout=20) as answer:
        return " ".join(answer.read().decode().split())


def assert_one_result(pacs: Pacs, study: Path) -> None:
    [ds] = pacs.instances()
    source = pydicom.dcmread(next(study.iterdir()))
    assert ds.SeriesDescription == "made by work.sh"
    assert (ds.StudyInstanceUID, ds.PatientID) == (source.StudyInstanceUID, source.PatientID)


def test_a_docker_bucket_that_is_dropped_in_overwrites_only_its_own_input(
    make_node: NodeMaker, shipped_images: Docker, pacs: Pacs, tmp_path: Path
) -> None:
    files = {"Dockerfile": DOCKERFILE, "work.sh": BUCKET, "make.py": MAKE}
    image = engine.build(shipped_images, "brookbox-test/journey-bucket:1", files)
    node = make_node(streams=("echo",), worker={"docker": "auto"})
    node.route_all_to(pacs)
    drop_in(node, "ProcPics", {}, image=image)
    report, before = sent(node, "ProcPics", tmp_path / "sent")
    [job] = node.wait_for_jobs(1, "succeeded")
    node.wait_for_deliveries(1, "delivered")
    log = node.layout.job(job.id).log.read_text()
    assert job.executor == "container"
    assert "called with 2 words as 0" in log
    assert "input is now overwritten" in log
    after = digests(node.layout.studies)
    assert {path: after.get(path) for path in before} == before
    assert len(after) == 3 + 1
    assert_one_result(pacs, tmp_path / "sent")
    assert "runs as root inside its container" in page(node)
    assert violations(node, {"ProcPics": [report]}, pacs) == []
    owners = {path.lstat().st_uid for path in node.layout.jobs.rglob("*")}
    assert owners == {os.geteuid()}


@pytest.mark.parametrize("template", ["new", "old"])
def test_a_host_stream_of_either_generation_is_dropped_in_and_gives_its_result(
    make_node: NodeMaker, pacs: Pacs, tmp_path: Path, template: str
) -> None:
    node = make_node(streams=("echo",))
    node.route_all_to(pacs)
    work_sh = NEW_HOST if template == "new" else OLD_HOST
    # As the node's own user it could read the whole store, which takes an admin's word.
    trusted = {} if os.geteuid() == 0 else {"trusted": True}
    drop_in(node, "HostStream", {"work.sh": work_sh, "make.py": MAKE}, **trusted)
    report, before = sent(node, "HostStream", tmp_path / "sent")
    [job] = node.wait_for_jobs(1, "succeeded")
    node.wait_for_deliveries(1, "delivered")
    log = node.layout.job(job.id).log.read_text()
    assert job.executor == "process"
    assert ("new template, 1 argument" if template == "new" else "old template ends") in log
    after = digests(node.layout.studies)
    assert {path: after.get(path) for path in before} == before
    assert_one_result(pacs, tmp_path / "sent")
    assert violations(node, {"HostStream": [report]}, pacs) == []
