"""A real gearmand on a port of its own, as the node runs it."""

from __future__ import annotations

import signal
import subprocess

from tests.kit import require
from tests.kit.waiting import free_port, is_listening, wait_for


class Gearmand:
    """One gearmand that a test starts, kills and starts again on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def server(self) -> str:
        """Its address, as settings want it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the one that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        program = require.program("gearmand", "gearman-job-server")
        self._process = subprocess.Popen(
            [program, "-t", "1", "-L", "127.0.0.1", "-p", str(self.port), "-l", "stderr"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: is_listening(self.port), "gearmand accepts connections", 10)

    def kill(self) -> None:
        """Kill it with SIGKILL: every ring that waits is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None
