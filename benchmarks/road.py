"""From the last C-STORE of a study to the start of its stream, beyond the quiet time.

By the job's own times, and for a container by the engine's word too.  There is no peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median

from appliance.index import job_list
from appliance.index.jobs import Job
from appliance.streams.catalog import read_stream
from appliance.worker.container import Docker
from benchmarks.peers import shipped_node
from benchmarks.plan import NotMeasured, Plan
from tests.kit import dicom, engine
from tests.kit.node import Node

_STREAM, _AE_TITLE, _IMAGE = "echo", "ECHO", "brookbox/echo:1.0.0"
_SLICES = 3


def run(plan: Plan) -> None:
    """Measure the road to a process and, where Docker has the image, to a container."""
    measure(plan, "process")
    docker = Docker()
    if docker.answers() and docker.image(_IMAGE) is not None:
        measure(plan, "container")
    else:
        print(f"The road to a container is left out: Docker does not answer, or has no {_IMAGE}.")


def measure(plan: Plan, executor: str) -> None:
    """Send studies, each when the job of the one before has ended; print the table."""
    docker = "auto" if executor == "container" else "never"
    node = shipped_node(plan.folder / f"road-{executor}", docker, _STREAM)
    node.start()
    try:
        node.wait_for_stream(_AE_TITLE)
        info = read_stream(node.home / "streams" / _STREAM).good_info
        quiet = timedelta(seconds=info.quiet_seconds or 0)
        roads = [_road(node, executor, number, quiet) for number in range(1, plan.runs + 1)]
    finally:
        node.stop()
    print(f"\nroad: {plan.runs} studies of {_SLICES} instances to a {executor}, one by one")
    print(_table(roads, quiet))


def _road(node: Node, executor: str, number: int, quiet: timedelta) -> dict[str, float]:
    """Send one study; give the stations of its job, in seconds after it was quiet enough."""
    files = dicom.write_study(dicom.ct_study(_SLICES), node.home / "sent" / str(number))
    node.send(files, _AE_TITLE)
    job = node.wait_for_jobs(number)[-1]
    if (job.state, job.executor) != ("succeeded", executor):
        raise NotMeasured(f"job {job.id} {job.state} as a {job.executor}: {job.reason}")
    quiet_at = job.last_instance_at + quiet
    return {name: (at - quiet_at).total_seconds() for name, at in _stations(node, job).items()}


def _stations(node: Node, job: Job) -> dict[str, datetime]:
    with node.db.read() as connection:
        steps = {step.name: step.started_at for step in job_list.steps_of(connection, job.id)}
    assert job.started_at is not None
    stations = {
        "job made": job.created_at,
        "claimed by a worker": job.started_at,
        f"{job.executor} begun": steps["run"],
    }
    if job.executor == "container":
        [stations["container started"]] = engine.started_at(
            job.id, node.layout.root, job.created_at
        )
    return stations


def _table(roads: Sequence[dict[str, float]], quiet: timedelta) -> str:
    beyond = f"seconds beyond the quiet time of {quiet.total_seconds():g} s"
    lines = [f"{'':24}{'median':>10}{'worst':>10}  {beyond}"]
    for name in roads[0]:
        values = [road[name] for road in roads]
        lines.append(f"{name:24}{median(values):>10.3f}{max(values):>10.3f}")
    return "\n".join(lines)
