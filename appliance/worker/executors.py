"""Every way of running streams that this machine may have, the better one first."""

from __future__ import annotations

from appliance.settings import Settings
from appliance.worker.container_runs import ContainerExecutor
from appliance.worker.executor import Executor
from appliance.worker.plain_process import ProcessExecutor


def all_executors(settings: Settings) -> tuple[Executor, ...]:
    """Make the executors of a worker: containers, then plain processes."""
    return ContainerExecutor(settings), ProcessExecutor(settings)
