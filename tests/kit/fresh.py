"""A fresh Debian 12 in a container: to install the node as a hospital does, and to look at it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit import require
from tests.kit.waiting import wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
MINBASE = "brookbox-test/minbase:bookworm"
SYSTEMD = "brookbox-test/minbase-systemd:bookworm"
_CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
# Nothing of the tests' own surroundings but the way to the packages.
_HANDED_ON = ("PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "http_proxy", "https_proxy", "no_proxy")
# What systemd needs as process 1; a machine may lack SYS_RESOURCE itself.
_BOOTS = (
    "--cap-add=ALL", "--cap-drop=SYS_RESOURCE",
    "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
    "--tmpfs=/run:exec", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw", "--volume=/var/lib/docker",
    "--env=container=docker", "--tty",
)  # fmt: skip


def docker(*words: str, seconds: float = 120) -> str:
    """Run `docker …`; what it says."""
    done = subprocess.run(
        ["docker", *words], text=True, capture_output=True, timeout=seconds,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"docker {' '.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Machine:
    """A container that runs; what is done in it is done as root."""

    name: str
    said: list[str] = field(default_factory=list)

    def run(self, script: str, *, seconds: float = 300, wanted: int = 0) -> str:
        """Run a script of bash; both its outputs, once it ended as wanted."""
        done = subprocess.run(
            ["docker", "exec", self.name, "bash", "-c", script],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == wanted, f"{script}\nexit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self, command: str, log: str) -> None:
        """Start a command that goes on running; what it says is in `log`."""
        docker("exec", "--detach", self.name, "bash", "-c", f"exec {command} >{log} 2>&1")

    def text(self, path: str) -> str:
        """Read a file; "" while there is none."""
        return self.run(f"cat {path} 2>/dev/null || true")


@contextlib.contextmanager
def machine(
    image: str, *, network: str, boots: bool = False, shows: Sequence[str] = ()
) -> Iterator[Machine]:
    """Run a container, with the checkout at /brookbox; `shows` are further `folder:place`."""
    options = list(_BOOTS) if boots else ["--init"]
    for place in (f"{CHECKOUT}:/brookbox", *shows):
        options.append(f"--volume={place}:ro")
    for name in _HANDED_ON:
        if name in os.environ:
            options.append(f"--env={name}")
    certificates = next((os.environ[n] for n in _CERTIFICATES if os.environ.get(n)), "")
    if certificates and Path(certificates).is_file():
        # Not over the container's own, which a package is about to write.
        options += [f"--volume={certificates}:/srv/ca.crt:ro", "--env=PIP_CERT=/srv/ca.crt"]
    command = ["/sbin/init"] if boots else ["sleep", "infinity"]
    before = _hierarchies()
    name = docker("run", "--detach", f"--network={network}", *options, image, *command).strip()
    try:
        found = Machine(name)
        if boots:
            _wait_until_booted(found)
        yield found
    finally:
        docker("rm", "--force", "--volumes", name)
        if boots:
            wait_for(lambda: _leaves_no_hierarchy(before), "the machine's cgroups are as they were")


def _hierarchies() -> dict[str, int]:
    """Map controllers to the hierarchy of cgroups, version 1, that they are in; 0 is none."""
    lines = Path("/proc/cgroups").read_text("ascii").splitlines()[1:]
    return {name: int(number) for name, number, *_ in map(str.split, lines)}


def _leaves_no_hierarchy(before: dict[str, int]) -> bool:
    """Remove the hierarchies that systemd made for controllers that were in none.

    They belong to the kernel, not to the container: the engine does not hear of kills for
    memory any more as long as they are there and not mounted.
    """
    made: dict[int, list[str]] = {}
    for name, number in _hierarchies().items():
        if number and not before.get(name, 0):
            made.setdefault(number, []).append(name)
    for names in made.values():
        with tempfile.TemporaryDirectory(prefix="brookbox-cgroup-") as folder:
            options = ["-t", "cgroup", "-o", ",".join(names), "none", folder]
            subprocess.run(["mount", *options], check=True, timeout=30)
            for group, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(group)
            subprocess.run(["umount", folder], check=True, timeout=30)
    return not made


def _wait_until_booted(one: Machine) -> None:
    def booted() -> bool:
        said = subprocess.run(
            ["docker", "exec", one.name, "systemctl", "is-system-running"],
            text=True, capture_output=True, timeout=30,
        )  # fmt: skip
        return said.stdout.strip() in ("running", "degraded")

    try:
        wait_for(booted, "systemd has started", 60)
    except AssertionError:
        require.missing("systemd as process 1 of a container", "a machine whose Docker allows it")


def minbase() -> str:
    """Give the image of the smallest Debian 12, made once per machine."""
    require.root()
    require.program("docker", "docker.io")
    require.program("debootstrap", "debootstrap")
    if not _has(MINBASE):
        with tempfile.TemporaryDirectory(prefix="brookbox-minbase-") as folder:
            root, archive = Path(folder, "root"), Path(folder, "root.tar")
            command = ["debootstrap", "--variant=minbase", "bookworm", str(root)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)
            tar = ["tar", "--one-file-system", "-C", str(root), "-cf", str(archive), "."]
            subprocess.run(tar, check=True, timeout=300)
            docker("import", str(archive), MINBASE)
    return MINBASE


def minbase_with_systemd() -> str:
    """Give the image of the smallest Debian 12 that can boot."""
    minbase()
    if not _has(SYSTEMD):
        with machine(MINBASE, network="host") as one:
            one.run("apt-get update -qq && apt-get install -qq -y --no-install-recommends "
                    "systemd-sysv >/dev/null 2>&1", seconds=600)  # fmt: skip
            docker("commit", one.name, SYSTEMD)
    return SYSTEMD


def _has(image: str) -> bool:
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, timeout=60)
    return found.returncode == 0
