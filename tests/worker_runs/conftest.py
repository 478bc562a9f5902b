"""Fixtures for runs of streams: a workshop, an engine, and an image that does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from appliance.settings import Node, Settings
from appliance.worker.container import Docker
from appliance.worker.container_runs import ContainerExecutor
from tests.kit import engine
from tests.kit.runs import InBackground, Workshop, begin

# Runs what the stream's key env.CODE holds, so that one image does for all tests.
RUN = """\
import os
exec(os.environ["CODE"])
"""


@pytest.fixture(scope="session")
def docker_required() -> Iterator[Docker]:
    """An engine that answers."""
    with engine.running() as docker:
        yield docker


@pytest.fixture(scope="session")
def image(docker_required: Docker) -> str:
    """An image with Python that runs the code that the stream names."""
    files = {
        "Dockerfile": "ARG BASE\nFROM ${BASE}\nCOPY run.py /opt/run.py\nVOLUME /data\n",
        "run.py": RUN,
    }
    return engine.build(docker_required, "brookbox-test/run:1", files)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    settings = Settings(home=tmp_path, node=Node(data_root="data", streams_folder="streams"))
    shop = Workshop(settings)
    shop.layout.make()
    return shop


@pytest.fixture
def containers(workshop: Workshop, docker_required: Docker) -> Iterator[ContainerExecutor]:
    executor = ContainerExecutor(workshop.settings)
    yield executor
    executor.sweep(lambda worker: False)  # what a failed test left


Begin = Callable[..., InBackground]


@pytest.fixture
def contained(workshop: Workshop, containers: ContainerExecutor, image: str) -> Begin:
    """Begin a run of this code in a container, with these keys in info.json."""
    numbers = iter(range(1, 100))

    def start(code: str, *, files: dict[str, str] | None = None, **info: Any) -> InBackground:
        number = next(numbers)
        environment = {"CODE": dedent(code), **info.pop("env", {})}
        keys = {"image": image, "command": ["python3", "-u", "/opt/run.py"], **info}
        stream = workshop.stream(f"s{number}", {**keys, "env": environment}, files)
        assert containers.why_not(stream) is None, containers.why_not(stream)
        return begin(containers, workshop.run_of(containers, stream, number))

    return start
