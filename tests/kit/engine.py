"""A Docker engine for tests: the one that runs, or one that is started for them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import docker
import psutil

from appliance.errors import StreamError
from appliance.worker import ground
from appliance.worker.container import Docker
from tests.kit import require, waiting
from tests.kit.node import Node

# Any image with Python 3 will do; BROOKBOX_BUILD_BASE names another.
BASES = ("brookbox-base:test", "brookbox/debian-base:bookworm", "python:3.11-slim")
GROUND = "brookbox/base:1.0.0"  # has pydicom
SHIPPED = (GROUND, "brookbox/echo:1.0.0", "brookbox/montage:1.0.0")


@contextlib.contextmanager
def running() -> Iterator[Docker]:
    """Give an engine that answers; as root one is started where none runs."""
    found = Docker()
    if found.answers():
        yield found
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        require.missing("Docker", "apt-get install docker.io, and systemctl start docker")
    log = Path(tempfile.gettempdir(), "dockerd-for-tests.log")
    with log.open("wb") as file, subprocess.Popen(["dockerd"], stdout=file, stderr=file) as process:
        try:
            waiting.wait_for(found.answers, "dockerd answers", seconds=30)
            yield found
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def private(*options: str) -> Iterator[PrivateEngine]:
    """Start an engine of the test's own, to kill and to start again."""
    require.root()
    require.program("dockerd", "docker.io")
    require.program("unshare", "util-linux")
    # Not the test's own folder: containerd's sockets need a short path.
    folder = Path(tempfile.mkdtemp(prefix="bb-"))
    engine = PrivateEngine(folder, options)
    try:
        engine.start()
        yield engine
    finally:
        engine.clean_up()
        shutil.rmtree(folder, ignore_errors=True)


class PrivateEngine:
    """dockerd with folders of its own and no network."""

    def __init__(self, folder: Path, options: tuple[str, ...]) -> None:
        self._folder = folder
        self._options = options
        self.url = f"unix://{folder}/docker.sock"
        self.docker = Docker(self.url)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self._folder / "dockerd.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [
                    # In a network of its own: without a bridge it would remove that of
                    # the machine's engine.
                    "unshare", "--net", "dockerd", "--host", self.url,
                    "--data-root", f"{self._folder}/root",
                    "--exec-root", f"{self._folder}/exec", "--pidfile", f"{self._folder}/pid",
                    "--bridge", "none", "--iptables=false",
                    *self._options,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        waiting.wait_for(self.docker.answers, "the private dockerd answers", seconds=40)

    def kill(self) -> None:
        """Kill it; its containers go on, as the kernel has it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        # Its containerd dies with it.  The next one is not to believe in an old pid.
        (self._folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(40)

    def clean_up(self) -> None:
        """Stop it, with what a killed one left."""
        self.stop()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if f"{self._folder}/" in " ".join(process.cmdline()):
                    process.kill()
        for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (place := mount.split()[1]).startswith(f"{self._folder}/"):
                subprocess.run(["umount", "-l", place], check=False)


def build(one: Docker, tag: str, files: dict[str, str]) -> str:
    """Build an image for a test, once per tag and content that the engine has."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
    context.seek(0)
    said = list(one.build(context, tag, {"BASE": base(one)}))
    errors = [line["error"] for line in said if "error" in line]
    assert not errors, errors
    return tag


def base(one: Docker) -> str:
    """Find an image with Python on this engine; one of pytest's processes makes it if need be."""
    with (Path(tempfile.gettempdir()) / f"brookbox-base-{os.geteuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in (os.environ.get("BROOKBOX_BUILD_BASE", ""), *BASES):
            if name and one.image(name) is not None:
                return name
        found: list[str] = []
        try:
            for _ in ground.find_base(one, found):
                pass
        except StreamError as error:
            require.missing("an image with Python", error.remedy)
        return found[0]


def build_shipped(one: Docker, folder: Path) -> None:
    """Build the images of the shipped streams as a user does, where they are missing."""
    if all(one.image(name) is not None for name in SHIPPED):
        return
    node = Node(folder)
    folder.mkdir(parents=True, exist_ok=True)
    node.write_settings()
    named = os.environ.get("BROOKBOX_BUILD_BASE", "")
    done = node.cli("streams", "build", *(["--base", named] if named else []), seconds=900)
    assert done.returncode == 0, done.stdout + done.stderr


def started_at(job_id: int, data_root: Path, since: datetime) -> list[datetime]:
    """Say when the engine started the containers of a job, by the engine's own word."""
    labels = [f"brookbox.node={data_root.absolute()}", f"brookbox.job={job_id}"]
    with contextlib.closing(docker.from_env()) as client:
        told = client.events(
            since=int(since.timestamp()),
            until=int(datetime.now(UTC).timestamp()) + 1,
            filters={"type": "container", "event": "start", "label": labels},
            decode=True,
        )
        return [datetime.fromtimestamp(one["timeNano"] / 1e9, UTC) for one in told]


def copy(target: Docker, image: str) -> str:
    """Bring an image of the machine's engine to another."""
    with tempfile.TemporaryFile() as file:
        for chunk in docker.from_env().api.get_image(image):
            file.write(chunk)
        file.seek(0)
        list(target.load(file))
    return image
