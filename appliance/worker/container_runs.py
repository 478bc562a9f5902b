"""Run streams as containers.

A run makes one container of the image's ID, watches it to its end and removes it.
Whatever is left of an earlier attempt of the same job is removed first, so that no
two attempts ever write into one job folder.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from appliance import ids, logs
from appliance.errors import StreamError, StreamUnavailable
from appliance.settings import Settings
from appliance.streams.catalog import Stream
from appliance.worker import folders, profile
from appliance.worker.container import Docker, Engine, Image
from appliance.worker.endings import Ending, Facts, ending, never_started, unavailable
from appliance.worker.executor import Ended, Run, Waits, Watch
from appliance.worker.gpus import gpu_devices
from appliance.worker.log_file import LogFile
from appliance.worker.models import models_folder, why_no_models
from appliance.worker.output_watch import OutputWatch
from appliance.worker.profile import Ground, Place, User
from appliance.worker.running_container import RunningContainer
from appliance.worker.vigil import Seen, Vigil

_NOBODY = 65534
_ENGINE_KNOWN_SECONDS = 60.0
_REMOVAL_SECONDS = 20.0
_LOOK_SECONDS = 0.1

# What engines say of a program that is not in the image, or is no program.
_NO_PROGRAM = {
    "executable file not found": 127,
    "no such file or directory": 127,
    "exec format error": 126,
    "permission denied": 126,
}


class ContainerExecutor:
    """Docker on this machine."""

    name = "container"
    is_confined = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._docker = Docker(settings.worker.docker_url)
        self._node = str(settings.data_root.absolute())
        self._engine_at = 0.0
        self._engine: Engine | None = None
        self._with_work_sh: dict[str, bool] = {}

    def why_not(self, stream: Stream) -> Waits | None:
        """Say why this stream cannot run in a container now."""
        info = stream.good_info
        if self._settings.worker.docker == "never":
            return Waits("Docker is switched off", "set worker.docker to auto")
        if not info.image:
            return Waits(f"Stream {stream.ae_title} names no image", "add image to its info.json")
        if info.gpus > len(gpu_devices()):
            return Waits("It waits for a worker with a GPU", "start a worker on such a machine")
        if waits := why_no_models(stream):
            return waits
        try:
            image = self._docker.image(info.image)
            if image is None:
                return Waits(f"Image {info.image} is not on this machine", stream.get_image)
            return self._why_not_magickbox(stream, image)
        except StreamError as error:
            return Waits(str(error), error.remedy)

    def wants_copy(self, stream: Stream) -> bool:
        """Say whether INPUT must be a private copy: MagickBox's scripts write into it."""
        return stream.contract == "magickbox"

    def run(self, run: Run, watch: Watch) -> Ended:
        """Run one attempt to its end."""
        name = run.stream.good_info.image
        try:
            image = self._docker.image(name)
            if image is None:
                why = unavailable(f"Image {name} is not on this machine.", run.stream.get_image)
                return _ended(why, name)
            self._remove_labelled(f"brookbox.job={run.job.id}")
            return self._run_image(run, watch, image)
        except StreamUnavailable as error:
            return _ended(unavailable(f"{error}.", error.remedy), name)
        except StreamError as error:
            return _ended(unavailable(f"Docker refused to run it: {error}.", error.remedy), name)

    def sweep(self, is_alive: Callable[[str], bool]) -> None:
        """Remove the containers of this node's workers that are not alive any more."""
        if self._settings.worker.docker == "never":
            return
        with contextlib.suppress(StreamError):
            for container, labels in self._docker.labelled(f"brookbox.node={self._node}"):
                if not is_alive(labels.get("brookbox.worker", "")):
                    self._docker.remove(container)
                    logs.get().info("container removed", job=labels.get("brookbox.job"))

    def _why_not_magickbox(self, stream: Stream, image: Image) -> Waits | None:
        if stream.contract != "magickbox":
            return None
        if image.id not in self._with_work_sh:
            labels = self._labels(str(ids.this_process()))
            found = self._docker.file_in(image.id, profile.WORK_SH, labels)
            self._with_work_sh[image.id] = found is not None
        if self._with_work_sh[image.id]:
            return None
        return Waits(
            f"Image {stream.good_info.image} has no {profile.WORK_SH}, which MagickBox calls",
            "add command to info.json if the image is not a MagickBox one",
        )

    def _run_image(self, run: Run, watch: Watch, image: Image) -> Ended:
        ground, own = self._ground(run, image), folders.stamp(run.folder)
        folders.let_in(run.folder, ground.user.uid, ground.user.gid)
        output = self._output_watch(run, ground)
        with contextlib.closing(LogFile(run.folder.log, int(run.limits.log_mb * 1_000_000))) as log:
            container = self._docker.create(profile.container_config(run, ground))
            try:
                end, exit_code, seen = self._run_container(run, watch, container, log, output)
            finally:
                with contextlib.suppress(StreamError):
                    self._docker.remove(container)
                # Otherwise the lease was lost, and the folder is the next attempt's.
                if folders.stamp(run.folder) == own:
                    self._take_back(run, ground)
            if end.sentence:
                log.say(end.sentence)
        peak = seen.peak_memory_bytes if seen else None
        return _ended(end, run.stream.good_info.image, image.id, exit_code, peak)

    def _run_container(
        self, run: Run, watch: Watch, container: str, log: LogFile, output: OutputWatch
    ) -> tuple[Ending, int | None, Seen | None]:
        own_disk = run.stream.contract == "magickbox"
        running = RunningContainer(self._docker, container, log, run.folder.output, own_disk)
        try:
            try:
                running.start()
            except StreamUnavailable:
                raise
            except StreamError as error:
                return (*_not_started(error), None)
            seen = Vigil(watch, output, log, run.limits.timeout_seconds).keep(running)
            running.note_end()
        finally:
            running.close()
        if seen.stopped_for is None and running.is_lost:
            lost = unavailable("Docker went away while it ran.", "nothing: it runs again by itself")
            return lost, None, seen
        if not seen.is_over:
            return unavailable("Docker could not end it.", "systemctl restart docker"), None, seen
        facts = Facts(
            running.exit_code,
            seen.stopped_for,
            seen.said,
            running.out_of_memory,
            running.forks_refused,
            log.tail,
            run.job.id,
        )
        return ending(facts, run.limits), running.exit_code, seen

    def _ground(self, run: Run, image: Image) -> Ground:
        engine = self._ask_engine()
        return Ground(
            image_id=image.id,
            volumes=image.volumes,
            user=_user(engine),
            places=self._places(run, _user(engine)),
            cpus_here=engine.cpus,
            is_remapped=engine.is_remapped,
            labels={
                **self._labels(run.worker),
                "brookbox.job": str(run.job.id),
                "brookbox.attempt": str(run.job.attempt),
            },
        )

    def _places(self, run: Run, user: User) -> tuple[Place, ...]:
        info, folder = run.stream.good_info, run.folder
        is_magickbox = run.stream.contract == "magickbox"
        places = [
            Place(folder.input.absolute(), "/input", read_only=not is_magickbox),
            Place(folder.output.absolute(), "/output", read_only=False),
        ]
        if folder.info.exists():
            places.append(Place(folder.info.absolute(), "/job/info.json"))
        if models := models_folder(run.stream):
            places.append(Place(models, "/models"))
        if info.memory or is_magickbox:
            kept = self._memory(run.stream)
            folders.give(kept, user.uid, user.gid)
            places.append(Place(kept, "/memory", read_only=False))
        return tuple(places)

    def _memory(self, stream: Stream) -> Path:
        return folders.memory_folder(self._settings.data_root.absolute(), stream.ae_title)

    def _output_watch(self, run: Run, ground: Ground) -> OutputWatch:
        written = tuple(place.source for place in ground.places if not place.read_only)
        # OUTPUT first: its volume is the one that must not run full.
        written = tuple(sorted(written, key=lambda path: path.name != "OUTPUT"))
        return OutputWatch(written, run.limits.output_bytes, run.limits.output_files)

    def _take_back(self, run: Run, ground: Ground) -> None:
        written = [place.source for place in ground.places if not place.read_only]
        if os.geteuid() != 0 and run.stream.contract == "magickbox":
            foreign = tuple(path for path in written if folders.has_foreign_files(path))
            if foreign:
                self._help_back(ground, foreign)
        for place in ground.places:
            if not place.read_only:
                is_kept = place.target == "/memory"
                (folders.take_back_kept if is_kept else folders.take_back)(place.source)

    def _help_back(self, ground: Ground, foreign: tuple[Path, ...]) -> None:
        """Have a container of the same image give the files of a root container back."""
        try:
            helper = self._docker.create(profile.helper_config(ground, foreign))
            try:
                self._docker.start(helper)
                self._docker.wait(helper)
            finally:
                self._docker.remove(helper)
        except StreamError as error:
            logs.get().warning("files of a root container not given back", why=str(error))

    def _labels(self, worker: str) -> dict[str, str]:
        """Give what every container bears, so that `sweep` finds it when its worker is dead."""
        return {"brookbox.node": self._node, "brookbox.worker": worker}

    def _ask_engine(self) -> Engine:
        if self._engine is None or time.monotonic() - self._engine_at > _ENGINE_KNOWN_SECONDS:
            self._engine, self._engine_at = self._docker.engine(), time.monotonic()
        return self._engine

    def _remove_labelled(self, label: str) -> None:
        """Remove what earlier attempts left, also what the engine is busy with just now."""
        until = time.monotonic() + _REMOVAL_SECONDS
        while left := self._docker.labelled(label, f"brookbox.node={self._node}"):
            if time.monotonic() > until:
                raise StreamUnavailable(
                    "Docker does not remove the container of an earlier attempt",
                    remedy="docker ps --all, then docker rm --force; or restart Docker",
                )
            for container, _ in left:
                self._docker.remove(container)
            time.sleep(_LOOK_SECONDS)


def _user(engine: Engine) -> User:
    """Choose the user inside: never root outside, and able to read what the worker owns."""
    if engine.is_rootless:
        return User(0, 0)  # which is the worker's own user outside
    if os.geteuid() == 0:
        return User(_NOBODY, _NOBODY, groups=(os.getgid(),))
    return User(os.getuid(), os.getgid())


def _not_started(error: StreamError) -> tuple[Ending, int | None]:
    """Tell a program that cannot be started from a machine that cannot start it."""
    said = str(error)
    if "OCI runtime create failed" in said or "runc create failed" in said:
        for words, exit_code in _NO_PROGRAM.items():
            if words in said and "mount" not in said:
                return never_started(words), exit_code
    return unavailable(f"Docker could not start it: {said}.", error.remedy), None


def _ended(
    end: Ending,
    image: str,
    image_id: str = "",
    exit_code: int | None = None,
    peak: int | None = None,
) -> Ended:
    return Ended(end.how, exit_code, end.sentence, end.remedy, peak, image, image_id)
