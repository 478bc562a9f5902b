"""Who runs a stream, or the sentence why it waits."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.settings import Settings
from appliance.settings import Worker as WorkerSettings
from appliance.worker.container import Docker
from appliance.worker.executor import Executor, Waits, executor_for
from appliance.worker.executors import all_executors
from tests.kit.runs import Workshop

RUN = {"run.py": "print('fine')"}
COMMAND = {"command": ["python3", "run.py"]}


def test_a_container_is_preferred_when_the_image_is_there(
    workshop: Workshop, docker_required: Docker, image: str
) -> None:
    keys = {**COMMAND, "image": image, "trusted": True}
    assert _name(workshop, workshop.settings, keys) == "container"


def test_a_trusted_stream_runs_as_a_process_until_its_image_is_there(
    workshop: Workshop, docker_required: Docker
) -> None:
    keys = {**COMMAND, "image": "brookbox-test/none:1", "trusted": True}
    assert _name(workshop, workshop.settings, keys) == "process"


def test_without_docker_a_trusted_stream_runs_and_another_says_that_it_waits(
    workshop: Workshop, tmp_path: Path
) -> None:
    settings = _with(workshop.settings, docker_url=f"unix://{tmp_path}/none")
    keys: dict[str, Any] = {**COMMAND, "image": "any:1"}
    assert _name(workshop, settings, {**keys, "trusted": True}) == "process"
    waits = _chosen(workshop, settings, keys)
    assert isinstance(waits, Waits) and waits.sentence == "Docker does not answer"


def test_bi_22_an_image_that_is_not_here_is_named_with_what_to_type(
    workshop: Workshop, docker_required: Docker
) -> None:
    waits = _chosen(workshop, workshop.settings, {**COMMAND, "image": "brookbox-test/none:1"})
    assert isinstance(waits, Waits)
    assert waits.sentence == "Image brookbox-test/none:1 is not on this machine"
    assert waits.remedy == "brookbox streams pull S"


def test_where_docker_is_off_the_reason_is_the_process_s(workshop: Workshop) -> None:
    settings = _with(workshop.settings, docker="never")
    chosen = _chosen(workshop, settings, {**COMMAND, "image": "any:1"})
    if os.geteuid() == 0:
        assert not isinstance(chosen, Waits)
    else:
        assert isinstance(chosen, Waits) and '"trusted": true' in chosen.remedy


@pytest.mark.parametrize("trusted", [True, False])
def test_a_stream_that_needs_a_gpu_waits_for_one(workshop: Workshop, trusted: bool) -> None:
    keys = {**COMMAND, "image": "any:1", "gpus": 9, "trusted": trusted}
    waits = _chosen(workshop, workshop.settings, keys)
    assert isinstance(waits, Waits) and waits.sentence == "It waits for a worker with a GPU"


def test_models_that_are_not_there_make_the_stream_wait(workshop: Workshop) -> None:
    keys = {**COMMAND, "trusted": True, "models": "models"}
    waits = _chosen(workshop, workshop.settings, keys)
    assert isinstance(waits, Waits) and "models" in waits.sentence


def _with(settings: Settings, **worker: Any) -> Settings:
    return replace(settings, worker=WorkerSettings(**worker))


def _chosen(workshop: Workshop, settings: Settings, keys: dict[str, Any]) -> Executor | Waits:
    stream = workshop.stream("s", keys, RUN)
    return executor_for(settings, stream, all_executors(settings))


def _name(workshop: Workshop, settings: Settings, keys: dict[str, Any]) -> str:
    chosen = _chosen(workshop, settings, keys)
    assert not isinstance(chosen, Waits), chosen
    return chosen.name
