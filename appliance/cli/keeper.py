"""Keep supervisord: start it, start it again when it was killed, stop it with us.

Its children ask the kernel to be told when it dies (PR_SET_PDEATHSIG) and stop; we
are their subreaper, so that we see when the last one has gone and its port is free.
We also end what is stopped (SIGSTOP) for half a heartbeat, the housekeeper among them:
killed, it gives up what it holds, and supervisord starts it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from appliance.health import deaths, stopped
from appliance.health.node_lock import VARIABLE
from appliance.health.stopped import Part, Stopped
from appliance.health.supervisor import SOCKET
from appliance.lifecycle import Lifecycle, die_with_parent

_PR_SET_CHILD_SUBREAPER = 36
_STOP_SECONDS = 75.0  # the processes have 40, then gearmand
_LEFTOVER_SECONDS = 45.0
_LOOK_SECONDS = 0.3
_SHORT_LIFE_SECONDS = 10.0
_STOPPED_LOOK_SECONDS = 5.0


class Keeper:
    """supervisord as a child of ours; what is stopped for `patience_seconds` is ended."""

    def __init__(
        self, conf: Path, data_root: Path, lifecycle: Lifecycle, patience_seconds: float
    ) -> None:
        self._conf = conf
        self._data_root = data_root
        self._lifecycle = lifecycle
        self._patience_seconds = patience_seconds
        self._pid = self._ended_pid = 0
        self._how = ""
        self._started = self._looked = 0.0
        self._stopped = Stopped()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self) -> None:
        """Start supervisord; it works in run/, where its socket is."""
        # One that was killed leaves its socket, which the next one would complain of.
        (self._conf.parent / SOCKET).unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self._conf)]
        environment = {**os.environ, VARIABLE: str(self._data_root)}
        # From a checkout the package is found in the folder that we were started in.
        environment["PYTHONPATH"] = os.pathsep.join(part for part in sys.path if part)
        # Nothing is imported from the folder of the node: a click.py there would be ours.
        environment["PYTHONSAFEPATH"] = "1"
        # Its own session: a Ctrl-C of the terminal reaches us alone, and we pass it on once.
        process = subprocess.Popen(
            command,
            cwd=self._conf.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._pid, self._started = process.pid, time.monotonic()
        process.returncode = 0  # `_reap` waits for it, with all the others

    def is_alive(self) -> bool:
        """Say whether supervisord runs, after burying whoever has died."""
        self._reap()
        return self._pid != 0

    def watch(
        self,
        on_reload: Callable[[], None],
        tell: Callable[[str, str], None],
        say: Callable[[str], None],
    ) -> None:
        """Stay until asked to stop; start supervisord again whenever it died.

        `tell` gets kind and sentence of each event: who was stopped, and that we killed;
        that supervisord died.
        """
        while not self._lifecycle.sleep(_LOOK_SECONDS):
            if self._lifecycle.wants_reload():
                on_reload()
            # All of them first: telling of one needs the index, which another may hold.
            for part, sentence in [(part, _kill(part)) for part in self._long_stopped()]:
                self._ended_pid = part.pid if part.role == "supervisord" else self._ended_pid
                tell("restarted", sentence)
            died = self._pid
            if not self.is_alive():
                say("supervisord died; its processes stop, then the node starts again")
                if time.monotonic() - self._started < _SHORT_LIFE_SECONDS:
                    self._lifecycle.sleep(_SHORT_LIFE_SECONDS)
                self._clear(_LEFTOVER_SECONDS)
                if not self._lifecycle.is_stopping:
                    self.start()
                    say("supervisord was started again")
                    if died != self._ended_pid:
                        tell("died", deaths.sentence("supervisord", died, self._how, again=True))

    def stop(self) -> bool:
        """Stop all of it; False when something had to be killed."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, 15)
        deadline = time.monotonic() + _STOP_SECONDS
        while self.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        return self._clear(5.0)

    def _long_stopped(self) -> list[Part]:
        now = time.monotonic()
        if now - self._looked < min(_STOPPED_LOOK_SECONDS, self._patience_seconds):
            return []
        self._looked = now
        return self._stopped.note(stopped.parts_below(os.getpid()), now, self._patience_seconds)

    def _clear(self, patience_seconds: float) -> bool:
        """Wait until nobody is left below us, then kill; True when nobody had to be killed."""
        deadline = time.monotonic() + patience_seconds
        while self._below() and time.monotonic() < deadline:
            time.sleep(0.1)
        left = self._below()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        while self._below():
            time.sleep(0.05)
        return not left

    def _below(self) -> list[psutil.Process]:
        self._reap()
        return psutil.Process().children(recursive=True)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
                if ended[0] == self._pid:
                    self._pid = 0
                    self._how = deaths.how(os.waitstatus_to_exitcode(ended[1]))


def _kill(part: Part) -> str:
    """Kill a process; give the sentence that tells of it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(part.pid, signal.SIGKILL)
    return (
        f"{part.role} (pid {part.pid}) was restarted: it was stopped (SIGSTOP) and did nothing "
        "any more."
    )
