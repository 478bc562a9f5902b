"""What the common ground of stream images is built on, on machines with and without a registry.

The base is `python:3.11-slim`, pulled when it is not there.  Where no registry
answers, root makes a Debian with Python by debootstrap instead.  The Python
packages are fetched on the host, which knows its proxies and certificates, and
go into the build as `wheels/`; then the build needs no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import StreamError
from appliance.worker import images
from appliance.worker.container import Docker
from appliance.worker.images import Progress, pull

DEFAULT_BASE = "python:3.11-slim"
DEBIAN_BASE = "brookbox/debian-base:bookworm"
_RELEASE = "bookworm"
_PYTHON = "3.11"  # of both bases: wheels are fetched for it
_PACKAGES = "python3,python3-pip,ca-certificates"


def build(docker: Docker, folder: Path, image: str, base_folder: Path) -> Iterator[Progress]:
    """Build a stream's image, and the common ground first when it is needed and not there."""
    if images.takes_base(folder) and docker.image(images.BASE_IMAGE) is None:
        yield from build_ground(docker, base_folder)
    yield from images.build(docker, folder, image)


def build_ground(docker: Docker, base_folder: Path, base: str = "") -> Iterator[Progress]:
    """Build the common ground, on a base that a person names or on one that can be had."""
    if base:
        # Its Python may be another than the one that wheels are fetched for.
        yield from images.build_base(docker, base_folder, base)
        return
    found: list[str] = []
    yield from find_base(docker, found)
    yield Progress("Fetching the Python packages of the common ground.")
    with with_wheels(base_folder) as context:
        yield from images.build_base(docker, context, found[0])


def find_base(docker: Docker, say: list[str]) -> Iterator[Progress]:
    """Make sure that a base is there; its name is appended to `say`.

    Raises StreamError when none can be had.
    """
    for name in (DEFAULT_BASE, DEBIAN_BASE):
        if docker.image(name) is not None:
            say.append(name)
            return
    try:
        yield from pull(docker, DEFAULT_BASE)
        say.append(DEFAULT_BASE)
    except StreamError as error:
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            raise StreamError(
                f"{error}; and without a registry a base is made by debootstrap, as root only",
                remedy=f"apt-get install debootstrap, or: docker load an image {DEFAULT_BASE}",
            ) from error
        yield Progress(f"No registry has {DEFAULT_BASE}: making a Debian {_RELEASE} instead.")
        yield from _debian(docker)
        say.append(DEBIAN_BASE)


def _debian(docker: Docker) -> Iterator[Progress]:
    with tempfile.TemporaryDirectory(prefix="brookbox-base-") as folder:
        root, archive = Path(folder, "root"), Path(folder, "root.tar")
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _RELEASE, root]
        yield from _followed([str(word) for word in command], "debootstrap failed")
        yield Progress("Packing it as an image.")
        yield from _followed(["tar", "-C", str(root), "-cf", str(archive), "."], "tar failed")
        docker.import_root(archive, *DEBIAN_BASE.split(":"))


@contextmanager
def with_wheels(base_folder: Path) -> Iterator[Path]:
    """Lend a copy of streams/base with its packages in `wheels/`, as far as they can be fetched."""
    with tempfile.TemporaryDirectory(prefix="brookbox-ground-") as folder:
        context = Path(folder, "base")
        shutil.copytree(base_folder, context, ignore=shutil.ignore_patterns("__pycache__"))
        wheels = context / "wheels"
        if not wheels.is_dir():
            fetched = subprocess.run(
                [
                    sys.executable, "-m", "pip", "download", "--quiet",
                    "--disable-pip-version-check", "--only-binary=:all:",
                    f"--python-version={_PYTHON}", "--dest", str(wheels),
                    "-r", str(context / "requirements.txt"),
                ],
                capture_output=True, check=False,
            )  # fmt: skip
            if fetched.returncode != 0:  # the build may have a way of its own
                shutil.rmtree(wheels, ignore_errors=True)
        yield context


def _followed(command: list[str], failed: str) -> Iterator[Progress]:
    """Run a program and give each line that it says; StreamError with the last one on failure."""
    last = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            yield Progress(line.strip())
    if process.returncode != 0:
        raise StreamError(f"{failed}: {last}", remedy="see what it said above")
