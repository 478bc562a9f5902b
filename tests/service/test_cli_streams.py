"""`brookbox streams`: what an author of a stream types, without a node."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pydicom
import pytest

from appliance.streams.catalog import read_stream
from tests.kit import dicom, engine
from tests.kit.node import Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A folder with settings and streams; nothing runs there."""
    node = Node(tmp_path / "home", settings={"worker": {"docker": "never"}})
    node.home.mkdir()
    node.write_settings()
    return node


@pytest.fixture
def study(tmp_path: Path) -> Path:
    dicom.write_study(dicom.ct_study(3), tmp_path / "study")
    return tmp_path / "study"


def test_a_stream_is_run_without_a_node_as_the_node_would(
    node: Node, study: Path, tmp_path: Path
) -> None:
    (study / "readme.txt").write_text("no DICOM")
    done = node.cli("streams", "run", "streams/echo", str(study), str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "It succeeded as a plain process" in done.stdout
    assert "readme.txt is left out" in done.stderr
    results = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").glob("*.dcm"))]
    inputs = [pydicom.dcmread(path) for path in sorted(study.glob("*.dcm"))]
    assert len(results) == 3
    assert {ds.StudyInstanceUID for ds in results} == {inputs[0].StudyInstanceUID}
    assert not {ds.SOPInstanceUID for ds in results} & {ds.SOPInstanceUID for ds in inputs}
    assert not (node.home / "data").exists(), "the real node was touched"


def test_its_log_is_shown_while_it_runs_and_its_files_are_kept(
    node: Node, study: Path, tmp_path: Path
) -> None:
    folder = node.home / "streams" / "mine"
    folder.mkdir()
    (folder / "run.py").write_text(
        "import os, pathlib\n"
        "print('I see', len(os.listdir(os.environ['BROOKBOX_INPUT'])), 'files')\n"
        "pathlib.Path(os.environ['BROOKBOX_OUTPUT'], 'table.csv').write_text('1,2')\n"
        "raise SystemExit(7)\n"
    )
    info = {"AETitle": "MINE", "command": ["python3", "run.py"], "trusted": True}
    (folder / "info.json").write_text(json.dumps(info))
    done = node.cli("streams", "run", str(folder), str(study), str(tmp_path / "out"))
    assert done.returncode == 1
    assert "I see 3 files" in done.stderr
    assert "It failed" in done.stdout and "7" in done.stdout
    assert (tmp_path / "out" / "table.csv").read_text() == "1,2"
    told = node.cli("--json", "streams", "run", str(folder), str(study), str(tmp_path / "out2"))
    answer = json.loads(told.stdout)
    assert answer["exit_code"] == 7 and answer["others"] == ["table.csv"]


def test_two_studies_are_refused(node: Node, study: Path, tmp_path: Path) -> None:
    dicom.write_study(dicom.ct_study(1), study / "other")
    done = node.cli("streams", "run", "streams/echo", str(study), str(tmp_path / "out"))
    assert done.returncode == 1 and "instances of 2 studies" in done.stderr


def test_a_new_stream_is_good_and_works(node: Node, study: Path, tmp_path: Path) -> None:
    said = node.cli("streams", "new", "Bright Slices").stdout
    folder = node.home / "streams" / "bright-slices"
    assert "brookbox streams build" in said
    stream = read_stream(folder)
    assert stream.is_good and not stream.is_enabled and stream.ae_title == "BRIGHT_SLICES"
    assert node.cli("streams", "check", str(folder)).returncode == 0
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps({**info, "trusted": True}))
    done = node.cli("streams", "run", str(folder), str(study), str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    [result] = (tmp_path / "out").glob("*.dcm")
    assert pydicom.dcmread(result).SeriesDescription.startswith("Brightest slice")
    again = node.cli("streams", "new", "Bright Slices")
    assert again.returncode == 1 and "there is a" in again.stderr


def test_what_is_wrong_is_named_by_line(node: Node) -> None:
    file = node.home / "streams" / "montage" / "info.json"
    file.write_text(file.read_text().replace('"lanes"', '"lane"'))
    done = node.cli("streams", "check", "streams/montage")
    assert done.returncode == 1
    assert "lane is not a key of info.json. Did you mean lanes?" in done.stdout
    assert "montage/info.json:" in done.stdout
    assert node.cli("streams", "check").returncode == 1


def test_what_a_stream_is_granted_is_said(node: Node) -> None:
    file = node.home / "streams" / "echo" / "info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "network": True}))
    done = node.cli("streams", "check", "ECHO")
    assert done.returncode == 0, done.stdout
    assert "note  echo: It may be run as a plain process" in done.stdout
    assert "note  echo: It may use the network." in done.stdout
    [told] = node.cli_json("streams", "check", "ECHO")
    assert "It may use the network." in told["grants"]
    listed = node.cli_json("streams", "list")
    assert told["grants"] in [one["grants"] for one in listed]


def test_an_image_is_built_and_loaded(node: Node, tmp_path: Path) -> None:
    node.settings = {}
    node.write_settings()
    tag = f"brookbox-test/built:{os.getpid()}"
    with engine.running() as docker:
        base = engine.base(docker)
        folder = node.home / "streams" / "built"
        (folder / "memory").mkdir(parents=True)
        (folder / "memory" / "secret").write_text("kept")
        (folder / "info.json").write_text(
            json.dumps({"AETitle": "BUILT", "image": tag, "command": ["cat", "/opt/word"]})
        )
        (folder / "word").write_text("built here")
        (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY . /opt/\n")
        try:
            done = node.cli("streams", "build", "BUILT", seconds=300)
            assert done.returncode == 0, done.stderr
            assert "Step 1/2" in done.stderr and f"{tag}: built." in done.stderr
            look = ["docker", "run", "--rm", "--network", "none", tag]
            look += ["sh", "-c", "cat /opt/word; ls /opt"]
            said = subprocess.run(look, capture_output=True, text=True).stdout
            assert "built here" in said and "memory" not in said
            archive = tmp_path / "built.tar"
            subprocess.run(["docker", "save", "-o", str(archive), tag], check=True)
            subprocess.run(["docker", "rmi", tag], check=True, capture_output=True)
            assert node.cli_json("streams", "load", str(archive)) == {"loaded": [tag]}
            (folder / "Dockerfile").write_text(f"FROM {base}\nRUN exit 9\n")
            broken = node.cli("streams", "build", "BUILT", seconds=300)
            assert broken.returncode == 1 and "could not be built" in broken.stderr
        finally:
            subprocess.run(["docker", "rmi", "-f", tag], capture_output=True)
