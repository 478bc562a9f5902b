"""The folders themselves: what the node, the image builder and an author rely on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from appliance.streams.info import StreamInfo, read_info
from tests.streams import made
from tests.streams.conftest import STREAMS, RunStream

README = (STREAMS / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["echo", "montage"])
def test_info_json_is_right_and_says_what_the_node_counts_on(name: str) -> None:
    info, problems = read_info(STREAMS / name / "info.json", "brookbox")
    assert problems == []
    assert info is not None
    assert (info.ae_title, info.image) == (name.upper(), f"brookbox/{name}:1.0.0")
    assert (info.trusted, info.quiet_seconds, info.lanes) == (True, 2, 1)
    assert (info.command, info.license) == (("python3", "run.py"), "Apache-2.0")


@pytest.mark.parametrize("name", ["base", "echo", "montage"])
def test_a_dockerfile_takes_its_base_as_an_argument(name: str) -> None:
    lines = (STREAMS / name / "Dockerfile").read_text().splitlines()
    assert lines[:2] == ["ARG BASE=python:3.11-slim", "FROM ${BASE}"]


@pytest.mark.parametrize("path", sorted(STREAMS.glob("*/*.py")), ids=lambda p: p.parent.name)
def test_a_stream_imports_nothing_of_the_node(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"^\s*(import|from) (appliance|web|tests)\b", text, re.MULTILINE)


def test_the_readme_names_every_key_of_info_json_and_no_other() -> None:
    table = README.split("## The keys of info.json")[1]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert named == {field.alias or name for name, field in StreamInfo.model_fields.items()}


def test_the_readmes_example_is_a_whole_stream(tmp_path: Path, run_stream: RunStream) -> None:
    found = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert found
    program = tmp_path / "run.py"
    program.write_text(found[1])
    folder = made.write_shuffled(made.axial(3), tmp_path / "in")
    ended = run_stream("echo", folder, program=program)
    assert ended.exit_code == 0, ended.log
    (result,) = ended.results
    assert len(result.SourceImageSequence) == 3
    assert json.loads((ended.output / "proc.json").read_text())[0]["success"] == "success"
