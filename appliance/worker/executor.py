"""What running a stream means, whoever runs it: the run, how it ended, and who takes it.

`worker.run_job` asks `executor_for` who can run a stream now, prepares the job's
folder as that executor wants it, and calls its `run`.  There are two: `container_runs`
(Docker) and `plain_process` (machines without it); `executors.all_executors` makes both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from appliance.disk.layout import JobFolder
from appliance.index.jobs import Job
from appliance.settings import Settings
from appliance.streams.catalog import Stream
from appliance.streams.limits import Limits

# exited: by itself, whatever its exit code.  stopped: the worker shuts down.
# unavailable: the machine failed it, not the stream; it may be run again.
How = Literal[
    "exited", "timeout", "memory", "pids", "output", "cancelled", "stopped", "unavailable"
]


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of a job.

    `folder` has INPUT, an OUTPUT that is new and empty, and info.json.  `worker` is
    `str(ids.this_process())`: by it a run is known whose worker died.
    """

    job: Job
    stream: Stream
    folder: JobFolder
    limits: Limits
    devices: tuple[str, ...]
    worker: str


class Watch(Protocol):
    """What may end a run from outside; asked about twice a second, so cheap."""

    def is_cancelled(self) -> bool:
        """Say whether a person cancelled the job, or its lease was lost."""

    def is_stopping(self) -> bool:
        """Say whether the worker shuts down."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended; `sentence` is empty only when it exited with 0.

    The sentence names the key of info.json to change, the remedy says what to do.
    `image` and `image_id` are empty for a plain process.
    """

    how: How
    exit_code: int | None
    sentence: str
    remedy: str
    peak_memory_bytes: int | None = None
    image: str = ""
    image_id: str = ""


class Waits(NamedTuple):
    """Why nothing on this machine can run a stream now, and what to do about it."""

    sentence: str
    remedy: str


class Executor(Protocol):
    """One way to run streams."""

    name: str

    @property
    def is_confined(self) -> bool:
        """Say whether what it runs sees nothing of the node's data."""

    def why_not(self, stream: Stream) -> Waits | None:
        """Say why this stream cannot be run this way now; None when it can."""

    def wants_copy(self, stream: Stream) -> bool:
        """Say whether INPUT must be a private, writable copy instead of links."""

    def run(self, run: Run, watch: Watch) -> Ended:
        """Run to the end, the log in `run.folder.log`; nothing of the run is left alive."""

    def sweep(self, is_alive: Callable[[str], bool]) -> None:
        """Stop and remove what workers of this machine left that are not alive any more."""


def executor_for(
    settings: Settings, stream: Stream, executors: Sequence[Executor]
) -> Executor | Waits:
    """Choose who runs a stream now, the first that can; or say why it waits.

    A stream that names an image waits for Docker, unless Docker is switched off.
    """
    reasons: dict[str, Waits] = {}
    for executor in executors:
        waits = executor.why_not(stream)
        if waits is None:
            return executor
        reasons[executor.name] = waits
    names_image = stream.info is not None and bool(stream.info.image)
    wants = "container" if names_image and settings.worker.docker != "never" else "process"
    return reasons.get(wants) or next(iter(reasons.values()))
