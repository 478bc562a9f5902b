"""Small file systems of a test's own, which can be filled without harm."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit import require


@contextmanager
def loop_ext4(image: Path, place: Path, megabytes: int) -> Iterator[Path]:
    """Lend a new ext4 of this size, mounted at `place`; unmounted whatever happens."""
    require.root()
    require.program("mkfs.ext4", "e2fsprogs")
    image.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(megabytes * 1_000_000)
    # Nothing set aside for root, who the test's node is.
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True, timeout=60)
    done = subprocess.run(
        ["mount", "-o", "loop", image, place], capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        image.unlink()
        require.missing("a loop device", f"mount says: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily, should a process that is just ending still hold a file of it.
        if subprocess.run(["umount", place], capture_output=True, timeout=60).returncode != 0:
            subprocess.run(["umount", "-l", place], check=True, timeout=60)
        image.unlink()


def free_bytes(place: Path) -> int:
    """Say how much can be written there."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def fill(place: Path, leave_bytes: int) -> Path:
    """Take the space of a file system but for so much, with one file."""
    ballast = place / "ballast"
    size = free_bytes(place) - leave_bytes
    assert size > 0, f"there are only {free_bytes(place)} bytes free"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return ballast
