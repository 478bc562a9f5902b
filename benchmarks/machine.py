"""What the figures were measured on, and the programs that they need."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from appliance import __version__
from benchmarks.plan import NotMeasured

_CHECKOUT = Path(__file__).resolve().parents[1]
_CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")
# The system's first: a virtual environment may hold other programs of DCMTK's names.
_PLACES = "/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin:"


def find(program: str) -> str | None:
    """Give the path of a program, None when it is not on this machine."""
    return shutil.which(program, path=_PLACES + os.environ.get("PATH", ""))


def need(program: str, package: str) -> str:
    """Give the path of a program; NotMeasured when it is not on this machine."""
    if found := find(program):
        return found
    raise NotMeasured(f"{program} is missing: apt-get install {package}")


def describe(folder: Path) -> str:
    """Say what machine this is, on which disk the folder is, and what runs."""
    commit = _said("git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty")
    libraries = [f"{name} {version(name)}" for name in ("pynetdicom", "pydicom", "SQLAlchemy")]
    peers = [_said(name, "--version") for name in ("storescu", "Orthanc", "gearmand", "docker")]
    return "\n".join(
        (
            f"date     {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"machine  {_processor()}, {psutil.cpu_count()} cores, "
            f"{psutil.virtual_memory().total / 1024**3:.0f} GB, Linux {platform.release()}",
            f"load     {load()} (1, 5, 15 min) before the first run",
            f"disk     {file_system(folder)}",
            f"network  loopback, TCP with {_CONGESTION.read_text().strip()}; "
            "those who send and those who receive share the cores",
            f"Brookbox {__version__} {commit}, Python {platform.python_version()}, "
            f"{', '.join(libraries)}, SQLite {sqlite3.sqlite_version}",
            f"peers    {'; '.join(peers)}",
        )
    )


def load() -> str:
    """Say how busy the machine is: its load of the last 1, 5 and 15 minutes."""
    return " ".join(f"{one:.2f}" for one in os.getloadavg())


def file_system(folder: Path) -> str:
    """Say on which file system a folder is."""
    mounts = psutil.disk_partitions(all=True)
    above = [one for one in mounts if folder.resolve().is_relative_to(one.mountpoint)]
    one = max(above, key=lambda mount: len(mount.mountpoint))
    return f"{one.fstype} ({one.opts}) on {one.device}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said(program: str, *words: str) -> str:
    """Give the first line that a program says."""
    path = find(program)
    if path is None:
        return f"no {program}"
    done = subprocess.run([path, *words], capture_output=True, text=True, timeout=30)
    line = (done.stdout or done.stderr).strip().partition("\n")[0]
    return line.removeprefix(f"{Path(path).parent}/").partition(" - ")[0].strip("$ ")
