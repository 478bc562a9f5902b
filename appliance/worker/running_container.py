"""One container that runs: its log as it comes, its end, what it uses, how it is stopped."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from appliance.errors import StreamError, StreamUnavailable
from appliance.worker.cgroup import Cgroup, Reading, cgroup_of, find_cgroup
from appliance.worker.container import Docker
from appliance.worker.log_file import LogFile
from appliance.worker.vigil import Look

_LOG_END_SECONDS = 20.0
_SIZE_EVERY_SECONDS = 5.0
_GOING_AWAY_SECONDS = 3.0
_KILLED, _TERMINATED = 128 + 9, 128 + 15


class RunningContainer:
    """A created container; `start` it once, then watch it."""

    def __init__(
        self, docker: Docker, container: str, log: LogFile, output: Path, has_own_disk: bool
    ) -> None:
        """Take hold of its output; `has_own_disk` for one whose root can be written to."""
        self._docker = docker
        self._id = container
        self._log = log
        self._device = output.stat().st_dev
        self._has_own_disk = has_own_disk
        self._own_bytes = 0
        self._size_at = 0.0
        self._over = threading.Event()
        self._cgroup: Cgroup | None = None
        self._reading = Reading()
        self._asked_to_end = False
        self._started_at = datetime.now(UTC)
        self._output = docker.attach(container)
        self._pump = threading.Thread(target=self._write_log, name="container log", daemon=True)
        self.exit_code: int | None = None
        self.is_lost = False  # the engine went away before it said how the container ended
        self.out_of_memory = False

    @property
    def forks_refused(self) -> bool:
        """Say whether it was refused a process or thread, as far as was seen."""
        return self._reading.forks_refused > 0

    def start(self) -> None:
        """Start it; StreamError when the engine cannot, StreamUnavailable when it is gone."""
        self._pump.start()
        try:
            self._docker.start(self._id)
        except StreamUnavailable:
            # It may have started all the same, before the engine could say so.
            self.kill_processes()
            self._output.close()
            raise
        except StreamError:
            self._output.close()
            raise
        threading.Thread(target=self._wait_for_end, name="container end", daemon=True).start()
        with contextlib.suppress(StreamError):
            pid = self._docker.state(self._id).pid
            self._cgroup = cgroup_of(pid, self._id) if pid else None

    def wait(self, seconds: float) -> bool:
        """Wait for its end at most so long."""
        return self._over.wait(seconds)

    def look(self) -> Look:
        """See what it uses; a root file system of its own is measured now and then."""
        if self._cgroup is not None:
            reading = self._cgroup.read(self._device)
            if reading.memory_bytes is not None:
                self._reading = reading
        if self._has_own_disk and time.monotonic() >= self._size_at:
            with contextlib.suppress(StreamError):
                self._own_bytes = self._docker.state(self._id, with_size=True).written_bytes or 0
            self._size_at = time.monotonic() + _SIZE_EVERY_SECONDS
        elsewhere = self._reading.deleted_bytes + self._own_bytes
        return Look(self._reading.memory_bytes, elsewhere)

    def terminate(self) -> None:
        """Ask it to end."""
        self._asked_to_end = True
        with contextlib.suppress(StreamError):
            self._docker.kill(self._id, "SIGTERM")

    def kill(self) -> None:
        """End it; without the engine by its processes, as far as they are this user's."""
        self._asked_to_end = True
        try:
            self._docker.kill(self._id, "SIGKILL")
        except StreamError:
            self.kill_processes()

    def kill_processes(self) -> None:
        """End what is in its cgroup, when the engine cannot be asked."""
        cgroup = self._cgroup or find_cgroup(self._id)
        if cgroup is not None:
            cgroup.kill()

    def close(self) -> None:
        """Take the rest of the log, and let go."""
        if self._pump.is_alive():
            self._pump.join(_LOG_END_SECONDS if self._over.is_set() else 0)
        self._output.close()

    def note_end(self) -> None:
        """Ask the engine how it ended, once it is over."""
        self.out_of_memory = self._reading.killed_for_memory > 0
        if self.is_lost:
            self.kill_processes()
            return
        try:
            self.out_of_memory |= self._docker.state(self._id).out_of_memory
            self.is_lost = self._was_ended_by_engine()
        except StreamUnavailable:
            self.is_lost = True
        except StreamError:  # somebody removed it by hand
            pass

    def _was_ended_by_engine(self) -> bool:
        """Say whether the engine ended it because it goes away itself.

        A program that was killed from outside looks the same at first; the engine
        that does not answer a moment later tells them apart.  Nor does the engine always
        know in time that the kernel killed it for memory: it is told by another way.
        """
        killed = self.exit_code in (_KILLED, _TERMINATED)
        if not killed or self._asked_to_end or self.out_of_memory:
            return False
        until = time.monotonic() + _GOING_AWAY_SECONDS
        while time.monotonic() < until:
            if not self._docker.answers():
                return True
            if self._docker.was_out_of_memory(self._id, self._started_at):
                self.out_of_memory = True
                return False
            time.sleep(0.2)
        return False

    def _write_log(self) -> None:
        for source, chunk in self._output:
            self._log.write(source, chunk)

    def _wait_for_end(self) -> None:
        try:
            self.exit_code = self._docker.wait(self._id)
        except StreamError:
            self.is_lost = True
        self._over.set()
