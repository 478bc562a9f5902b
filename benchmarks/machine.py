"""What the figures were measured on, and the programs that they need."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from appliance import __version__
from benchmarks.plan import NotMeasured, Plan

_CHECKOUT = Path(__file__).resolve().parents[1]
# The system's first: a virtual environment may hold other programs of DCMTK's names.
_PLACES = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:"
_LIBRARIES = ("pynetdicom", "pydicom", "SQLAlchemy")


def find(program: str) -> str | None:
    """Give the path of a program, None when it is not on this machine."""
    return shutil.which(program, path=_PLACES + os.environ.get("PATH", ""))


def need(program: str, package: str) -> str:
    """Give the path of a program; NotMeasured when it is not on this machine."""
    if found := find(program):
        return found
    raise NotMeasured(f"{program} is missing: apt-get install {package}")


@contextmanager
def nagle(is_off: bool) -> Iterator[None]:
    """Start DCMTK's programs, and Orthanc, with or without Nagle's algorithm.

    DCMTK leaves it on unless the environment says TCP_NODELAY=1.  Brookbox never has it on.
    """
    before = os.environ.pop("TCP_NODELAY", None)
    if is_off:
        os.environ["TCP_NODELAY"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TCP_NODELAY", None)
        if before is not None:
            os.environ["TCP_NODELAY"] = before


def describe(plan: Plan) -> str:
    """Say what machine this is, what runs on it, and how much is asked of it."""
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    commit = _first_line("git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty")
    lines = [
        f"date     {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"machine  {_processor()}, {psutil.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 1024**3:.0f} GB, Linux {platform.release()}",
        f"load     {load} (1, 5, 15 min) before the first run",
        f"disk     {_file_system(plan.folder)}",
        f"Brookbox {__version__} {commit}, Python {platform.python_version()}, {libraries}, "
        f"SQLite {sqlite3.sqlite_version}",
        f"peers    {_first_line('storescu', '--version').strip('$ ')}; "
        f"{_first_line('Orthanc', '--version')}; {_first_line('gearmand', '--version')}; "
        f"{_first_line('docker', '--version')}",
        f"runs     {plan.pairs} interleaved after one that is not counted, on loopback, "
        "sender and receiver on the same cores",
    ]
    if plan.pairs < 5 or plan.share < 1:
        lines.append("NOTE     fewer runs or instances than by default: not to be quoted")
    return "\n".join(lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    path = folder.resolve()
    mounts = [
        one for one in psutil.disk_partitions(all=True) if path.is_relative_to(one.mountpoint)
    ]
    one = max(mounts, key=lambda mount: len(mount.mountpoint))
    return f"{one.fstype} ({one.opts}) on {one.device}"


def _first_line(program: str, *words: str) -> str:
    path = find(program)
    if path is None:
        return f"no {program}"
    done = subprocess.run([path, *words], capture_output=True, text=True, timeout=30)
    return (done.stdout or done.stderr).partition("\n")[0].strip()
