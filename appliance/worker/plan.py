"""What a plain process is given: its command, environment, limits, and what it may see.

The plan is made here and carried out by `launcher`.  When the worker is root the
program is another user in namespaces of its own, and its places stand below /mnt;
otherwise it is the worker's own user and its places are the real ones.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from appliance.worker.executor import Run

NOBODY = 65534
TOKEN = "BROOKBOX_JOB_TOKEN"

_INSIDE = Path("/mnt/brookbox")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPEN_FILES = 4096
# Thread stacks and libraries reserve addresses that they never fill.
_ADDRESSES_BEYOND_MEMORY = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Places:
    """The real folders of a run; `home` and `tmp` only where they are folders on disk."""

    input: Path
    output: Path
    info: Path
    stream: Path
    base: Path | None = None
    models: Path | None = None
    memory: Path | None = None
    home: Path | None = None
    tmp: Path | None = None
    beside: Path | None = None  # MagickBox's job folder, with INPUT and OUTPUT in it
    data_root: Path = Path("/nonexistent")


def plan_for(run: Run, places: Places, token: str, is_root: bool) -> dict[str, Any]:
    """Make the plan that the launcher carries out."""
    seen = _inside(places) if is_root else places
    return {
        "command": _command(run, seen),
        "cwd": str(seen.stream),
        "environment": _environment(run, seen, token),
        "limits": _limits(run, NOBODY if is_root else os.getuid()),
        "nice": 5,
        "uid": NOBODY if is_root else None,
        "gid": NOBODY if is_root else None,
        "confine": _confine(run, places) if is_root else None,
    }


def _command(run: Run, seen: Places) -> list[str]:
    if run.stream.contract == "magickbox-host":
        work_sh = seen.stream / "work.sh"
        # One argument with two words; old templates read only the first.
        words = [str(work_sh), f"{seen.input} {seen.output}"]
        is_program = os.access(run.stream.folder / "work.sh", os.X_OK)
        return words if is_program else ["/bin/bash", *words]
    first, *rest = run.stream.good_info.command
    # The node's own interpreter has what streams need; the system's may not.
    return [sys.executable if first in ("python3", "python") else first, *rest]


def _environment(run: Run, seen: Places, token: str) -> dict[str, str]:
    threads = str(max(1, math.floor(run.limits.cpus)))
    environment = {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "USER": "brookbox",
        "LOGNAME": "brookbox",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "HOME": str(seen.home),
        "TMPDIR": str(seen.tmp),
        "BROOKBOX_INPUT": str(seen.input),
        "BROOKBOX_OUTPUT": str(seen.output),
        "BROOKBOX_JOB": str(seen.info.parent),
    }
    for name, place in (
        ("BROOKBOX_MODELS", seen.models),
        ("BROOKBOX_MEMORY", seen.memory),
        ("PYTHONPATH", seen.base),
    ):
        if place is not None:
            environment[name] = str(place)
    return environment | run.stream.good_info.env | {TOKEN: token}


def _limits(run: Run, uid: int) -> dict[str, int]:
    limits = {
        "AS": run.limits.memory_bytes + _ADDRESSES_BEYOND_MEMORY,
        "FSIZE": run.limits.output_bytes,
        "NOFILE": _OPEN_FILES,
        "CORE": 0,
    }
    if resource.getrlimit(resource.RLIMIT_NPROC)[1] != 0:
        # The kernel counts all threads of the user, those of other programs too.
        limits["NPROC"] = run.limits.pids + _threads_of(uid)
    return limits


def _threads_of(uid: int) -> int:
    threads = 0
    for process in psutil.process_iter():
        try:
            if process.uids().real == uid:
                threads += process.num_threads()
        except psutil.Error:
            continue
    return threads


def _inside(places: Places) -> Places:
    """Name the places as the program sees them in its own mount namespace."""
    beside = _INSIDE / "job" if places.beside else None
    return Places(
        input=beside / "INPUT" if beside else _INSIDE / "input",
        output=beside / "OUTPUT" if beside else _INSIDE / "output",
        info=_INSIDE / "told" / "info.json",
        stream=_INSIDE / "stream",
        base=_INSIDE / "base" if places.base else None,
        models=_INSIDE / "models" if places.models else None,
        memory=_INSIDE / "memory" if places.memory else None,
        home=_INSIDE / "home",
        tmp=Path("/tmp"),
        beside=beside,
    )


def _confine(run: Run, places: Places) -> dict[str, Any]:
    seen, megabytes = _inside(places), run.limits.tmp_mb
    owned = f"uid={NOBODY},gid={NOBODY}"
    bound = [_bound(places.stream, seen.stream), _bound(places.info, seen.info)]
    for name in ("base", "models"):
        if getattr(places, name):
            bound.append(_bound(getattr(places, name), getattr(seen, name)))
    writable = ("beside",) if places.beside else ("input", "output")
    for name in (*writable, "memory"):
        if getattr(places, name):
            bound.append(_bound(getattr(places, name), getattr(seen, name), read_only=False))
    kept = _interpreter()
    # What another user cannot enter anyway is covered, so that the way to what is
    # kept below it can be made anew.
    closed = {str(folder): "mode=0755,size=1m" for folder in _closed_above(kept)}
    covered = closed | {
        str(places.data_root): "mode=0755,size=1m",
        "/mnt": "mode=0755,size=1m",
        "/tmp": f"mode=1777,size={megabytes}m",
        "/var/tmp": f"mode=1777,size={megabytes}m",
        "/dev/shm": f"mode=1777,size={run.limits.shm_mb}m",
    }
    return {
        "network": run.stream.good_info.network,
        "covered": covered,
        "kept": [str(path) for path in kept],
        "made": {str(seen.home): f"mode=0700,size={megabytes}m,{owned}"},
        "bound": bound,
    }


def _bound(source: Path, target: Path, read_only: bool = True) -> dict[str, Any]:
    return {"source": str(source.absolute()), "target": str(target), "read_only": read_only}


def _interpreter() -> list[Path]:
    """List what must be there for this very interpreter to start."""
    paths = [Path(sys.prefix), Path(sys.base_prefix)]
    link = Path(sys.executable)
    while link.is_symlink():
        link = Path(os.path.normpath(link.parent / link.readlink()))
        paths.append(link)
    return list(dict.fromkeys(paths))


def _closed_above(paths: list[Path]) -> set[Path]:
    """Give the topmost folder on the way to each path that other users cannot enter."""
    closed = set()
    for path in paths:
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & 0o001:
                closed.add(folder)
                break
    return closed
