"""The image of a stream is missing, FT-21; tests/faults/test_dockerd.py has the engine gone."""

from __future__ import annotations

import contextlib

import docker
import yaml

from appliance.worker.container import Docker
from tests.kit import dicom, engine
from tests.kit.bench import Bench
from tests.kit.scripts import QUICK
from tests.kit.waiting import wait_for


def test_ft_21_a_job_whose_image_is_missing_waits_says_why_and_runs_when_it_is_there(
    bench: Bench, shipped_images: Docker
) -> None:
    name = f"brookbox-test/late:{bench.home.name.lower()}"
    config = yaml.safe_load(bench.file.read_text())
    config["worker"]["docker"] = "auto"
    bench.file.write_text(yaml.safe_dump(config))
    bench.stream("BOXED", image=name, command=["python3", "-c", QUICK], trusted=False)
    bench.start("dispatcher")
    bench.start("worker")
    bench.send_study(dicom.ct_study(1), "BOXED")
    [job] = bench.wait_for_jobs(1, "queued")
    wait_for(lambda: "is not on this machine" in bench.jobs()[0].wait_reason, "it says why")
    [job] = bench.jobs()
    assert (job.state, job.attempt) == ("queued", 0), "nothing was tried, and nothing pulled"
    assert shipped_images.image(name) is None
    with contextlib.closing(docker.from_env()) as client:
        client.images.get(engine.GROUND).tag(name)
        try:
            [job] = bench.wait_for_jobs(1, "succeeded", seconds=60)
        finally:
            client.images.remove(name)
    assert (job.attempt, job.wait_reason) == (1, "")
