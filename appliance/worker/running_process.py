"""One plain process that runs, and everything that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from appliance.errors import StreamError
from appliance.worker.beside import Beside
from appliance.worker.log_file import LogFile
from appliance.worker.plan import TOKEN
from appliance.worker.vigil import Look

LAUNCHER = Path(__file__).with_name("launcher.py")

_CHUNK = 1 << 16
_LOG_END_SECONDS = 5.0


class NotStarted(StreamError):
    """The launcher could not become the program; `errno` says why."""

    def __init__(self, errno: int, said: str) -> None:
        super().__init__(said, remedy="correct command in info.json")
        self.errno = errno


class RunningProcess:
    """A process in a session of its own; made by `start`, then watched."""

    def __init__(
        self, plan: dict[str, Any], log: LogFile, most_memory: int, beside: Beside | None
    ) -> None:
        self._log = log
        self._most_memory = most_memory
        self._beside = beside
        self._token: str = plan["environment"][TOKEN]
        self._process, self._status = _launch(plan, self._token)
        self._pump = threading.Thread(target=self._write_log, name="process log", daemon=True)
        self._pump.start()

    @property
    def exit_code(self) -> int | None:
        """Give how it ended: 128 and the signal when one ended it."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    def check_started(self) -> None:
        """Wait until the program has been started; NotStarted when it cannot be."""
        with os.fdopen(self._status, "rb") as status:
            said = status.read(4096)
        if said:
            self._process.wait()
            raise NotStarted(*json.loads(said))

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the first process at most so long."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def look(self) -> Look:
        """Add up its memory; pages that several processes share count once."""
        if self._beside is not None:
            self._beside.follow(self._log)
        own = shared = 0
        for process in self._alive():
            with contextlib.suppress(psutil.Error):
                memory = process.memory_info()
                own += memory.rss - memory.shared
                shared = max(shared, memory.shared)
        return Look(own + shared, over_memory=own + shared > self._most_memory)

    def terminate(self) -> None:
        """Ask all of it to end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End all of it: the session, its descendants and whatever bears its token."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        kill_all(self._alive())
        kill_all(bearers_of(self._token))

    def close(self) -> None:
        """End what outlived the first process, and take the rest of the log."""
        self.kill()
        self._process.wait()
        self._pump.join(_LOG_END_SECONDS)
        if self._beside is not None:
            self._beside.follow(self._log)

    def _alive(self) -> Iterator[psutil.Process]:
        """Give its processes: the descendants, and orphans that stayed in its session."""
        seen = set()
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            for process in [first, *first.children(recursive=True)]:
                seen.add(process.pid)
                yield process
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if pid not in seen and os.getsid(pid) == self._process.pid:
                    yield psutil.Process(pid)

    def _write_log(self) -> None:
        output: IO[bytes] | None = self._process.stdout
        assert output is not None
        with output:
            while chunk := os.read(output.fileno(), _CHUNK):
                self._log.write("output", chunk)


def bearers_of(token: str = "") -> Iterator[psutil.Process]:
    """Give the processes of this machine that bear a token of ours; "" is any."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            found = process.environ().get(TOKEN, "")
            if found and (not token or found == token) and process.pid != os.getpid():
                yield process


def kill_all(processes: Iterator[psutil.Process]) -> None:
    """Kill processes; those that are gone, or not ours to kill, are left."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _launch(plan: dict[str, Any], token: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start the launcher; give it, and the descriptor on which it says what went wrong."""
    told, status = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LAUNCHER), str(status)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Not the stream's own: a loader's variable must not reach a launcher that is root.
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", TOKEN: token},
            cwd="/",
            pass_fds=(status,),
            start_new_session=True,
        )
    except OSError:
        os.close(told)
        raise
    finally:
        os.close(status)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(json.dumps(plan).encode())
    return process, told
