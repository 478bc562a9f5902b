"""Run streams as plain processes, for machines without Docker.

A process is no sandbox like a container.  When the worker is root it runs as nobody,
in namespaces in which the node's data is not there; otherwise it is the node's own
user and could read the store, so that only streams that an admin trusts are run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from errno import EACCES, ENOENT, ENOEXEC
from hashlib import sha256
from pathlib import Path

import psutil

from appliance import logs
from appliance.disk.trees import remove_tree
from appliance.settings import Settings
from appliance.streams.catalog import Stream
from appliance.worker import folders
from appliance.worker.beside import Beside
from appliance.worker.endings import Ending, Facts, ending, never_started, unavailable
from appliance.worker.executor import Ended, Run, Waits, Watch
from appliance.worker.gpus import gpu_devices
from appliance.worker.log_file import LogFile
from appliance.worker.models import models_folder, why_no_models
from appliance.worker.output_watch import OutputWatch
from appliance.worker.plan import NOBODY, TOKEN, Places, plan_for
from appliance.worker.running_process import (
    LAUNCHER,
    NotStarted,
    RunningProcess,
    bearers_of,
)
from appliance.worker.vigil import Seen, Vigil

_PROBE_SECONDS = 30
_EXIT_CODES = {ENOENT: 127, EACCES: 126, ENOEXEC: 126}


class ProcessExecutor:
    """Plain processes on this machine."""

    name = "process"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Another node on this machine has jobs of the same numbers.
        self._node = sha256(os.fsencode(settings.data_root.absolute())).hexdigest()[:16]
        self._can_confine: bool | None = None

    def why_not(self, stream: Stream) -> Waits | None:
        """Say why this stream cannot run as a process now."""
        info, title = stream.good_info, stream.ae_title
        if stream.contract == "magickbox":
            return Waits(f"Stream {title} is an image: it needs Docker", "brookbox doctor")
        if stream.contract == "brookbox" and not info.command:
            return Waits(f"Stream {title} names no command", "add command to its info.json")
        if info.gpus > len(gpu_devices()):
            return Waits("It waits for a worker with a GPU", "start a worker on such a machine")
        if waits := why_no_models(stream):
            return waits
        return self._not_trusted(stream) or self._not_possible(stream)

    def wants_copy(self, stream: Stream) -> bool:
        """Say that INPUT must be a private copy: a process could write into linked files."""
        return True

    def run(self, run: Run, watch: Watch) -> Ended:
        """Run one attempt to its end."""
        self._kill_older(run)
        own = folders.stamp(run.folder)
        beside = Beside(run.folder) if run.stream.contract == "magickbox-host" else None
        folders.let_in(run.folder, NOBODY, NOBODY)
        if beside is not None:
            beside.make()
        places = self._places(run, beside)
        with closing(LogFile(run.folder.log, int(run.limits.log_mb * 1_000_000))) as log:
            try:
                end, exit_code, seen = self._run_process(run, watch, places, log, beside)
            finally:
                # Otherwise the lease was lost, and the folder is the next attempt's.
                if folders.stamp(run.folder) == own:
                    self._put_back(places, beside)
            if end.sentence:
                log.say(end.sentence)
        peak = seen.peak_memory_bytes if seen else None
        return Ended(end.how, exit_code, end.sentence, end.remedy, peak)

    def sweep(self, is_alive: Callable[[str], bool]) -> None:
        """Kill the processes of workers that are not alive any more."""
        for process in bearers_of():
            with contextlib.suppress(psutil.Error, OSError):
                token = process.environ().get(TOKEN, "")
                if token and not is_alive(token.split(" ")[1]):
                    process.kill()
                    logs.get().info("process of a dead worker killed", pid=process.pid)

    @property
    def is_confined(self) -> bool:
        """Say whether programs run as nobody, in namespaces without the node's data.

        Root's way; where root may not make namespaces, as in a container, a program is of
        the node's own user, as it is without root, and so only a trusted one.
        """
        if self._can_confine is None:
            self._can_confine = os.geteuid() == 0 and not _probe()
        return self._can_confine

    def _not_trusted(self, stream: Stream) -> Waits | None:
        info, title = stream.good_info, stream.ae_title
        if info.trusted:
            return None
        remedy = 'if you trust it, write "trusted": true into its info.json'
        if not self.is_confined:
            return Waits(
                f"Stream {title} is not trusted, and a process of the node's own user "
                "could read everything that the node keeps",
                remedy,
            )
        if info.network:
            return Waits(
                f"Stream {title} wants the network, and as a process it would reach this "
                "machine's own services",
                remedy,
            )
        if stream.contract == "brookbox" and self._settings.worker.docker != "never":
            return Waits(f"Stream {title} is not trusted and waits for Docker", remedy)
        return None

    def _not_possible(self, stream: Stream) -> Waits | None:
        if self.is_confined:
            return None
        root = str(self._settings.data_root.absolute())
        if stream.contract == "magickbox-host" and any(sign.isspace() for sign in root):
            return Waits(f"work.sh cannot take paths with a space: {root}", "set node.data_root")
        return None

    def _run_process(
        self, run: Run, watch: Watch, places: Places, log: LogFile, beside: Beside | None
    ) -> tuple[Ending, int | None, Seen | None]:
        token = f"{run.job.id}.{run.job.attempt} {run.worker} {self._node}"
        plan = plan_for(run, places, token, self.is_confined)
        written = (beside.path,) if beside else (places.output, places.input)
        more = tuple(path for path in (places.memory, places.home, places.tmp) if path)
        output = OutputWatch((*written, *more), run.limits.output_bytes, run.limits.output_files)
        try:
            running = RunningProcess(plan, log, run.limits.memory_bytes, beside)
        except OSError as error:
            text = f"The machine could not start a process: {error.strerror}."
            return unavailable(text, "brookbox doctor"), None, None
        try:
            try:
                running.check_started()
            except NotStarted as error:
                return (*_not_started(error), None)
            seen = Vigil(watch, output, log, run.limits.timeout_seconds).keep(running)
        finally:
            running.close()
        facts = Facts(
            running.exit_code,
            seen.stopped_for,
            seen.said,
            log_tail=log.tail,
            job_id=run.job.id,
        )
        return ending(facts, run.limits), running.exit_code, seen

    def _places(self, run: Run, beside: Beside | None) -> Places:
        info, folder, stream = run.stream.good_info, run.folder, run.stream
        data_root = self._settings.data_root.absolute()
        base = self._settings.streams_folder.absolute() / "base"
        memory = folders.memory_folder(data_root, stream.ae_title) if info.memory else None
        told = folder.path / "told"
        _only_info(folder.info, told)
        places = Places(
            input=(beside.input if beside else folder.input).absolute(),
            output=(beside.output if beside else folder.output).absolute(),
            info=told / "info.json",
            stream=stream.folder.absolute(),
            base=base if base.is_dir() else None,
            models=models_folder(stream),
            memory=memory,
            home=None if self.is_confined else _made(folder.path / "home"),
            tmp=None if self.is_confined else _made(folder.path / "tmp"),
            beside=beside.path.absolute() if beside else None,
            data_root=data_root,
        )
        for given in (places.beside or places.input, memory):
            if given is not None:
                folders.give(given, NOBODY, NOBODY)
        return places

    def _kill_older(self, run: Run) -> None:
        """Kill what an earlier attempt left, its worker's or another's, before it writes here."""
        for process in bearers_of():
            with contextlib.suppress(psutil.Error, OSError):
                token = process.environ().get(TOKEN, "")
                if token.startswith(f"{run.job.id}.") and token.endswith(f" {self._node}"):
                    process.kill()

    def _put_back(self, places: Places, beside: Beside | None) -> None:
        """Make the job folder what it was, when nothing of the run is left."""
        for path in (places.beside, places.input, places.output):
            if path is not None and path.is_dir():
                folders.take_back(path)
        if places.memory is not None:
            folders.take_back_kept(places.memory)
        if beside is not None:
            beside.undo()
        for path in (places.home, places.tmp, places.info.parent):
            if path is not None:
                remove_tree(path)


def _only_info(info: Path, told: Path) -> None:
    """Put info.json into a folder of its own: the stream is told nothing else of the job."""
    remove_tree(told)
    told.mkdir(mode=0o755)
    if info.exists():
        shutil.copyfile(info, told / "info.json")
        (told / "info.json").chmod(0o444)
    else:
        (told / "info.json").write_text("{}")


def _made(path: Path) -> Path:
    remove_tree(path)
    path.mkdir(mode=0o700)
    return path.absolute()


def _not_started(error: NotStarted) -> tuple[Ending, int | None]:
    if error.errno in _EXIT_CODES:
        return never_started(str(error)), _EXIT_CODES[error.errno]
    return unavailable(f"The machine could not start it: {error}.", "brookbox doctor"), None


def _probe() -> str:
    """Say why root may not make namespaces here; "" when it may."""
    answer = subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCHER), "probe"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PROBE_SECONDS,
        check=False,
    )
    return answer.stderr.strip() if answer.returncode else ""
