"""What the kernel counts of one container: memory, kills for memory, refused forks, pids.

Read from the cgroup's files, which any user of the machine may read, in both
versions of cgroups.  Where the engine runs in another machine (a desktop's virtual
one) there is nothing to read, and every answer is None.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look; `memory_bytes` is without the page cache that can be dropped."""

    memory_bytes: int | None = None
    killed_for_memory: int = 0
    forks_refused: int = 0
    deleted_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The folders of one container's cgroup: of memory and of pids, one and the same in v2."""

    memory: Path
    pids: Path

    def read(self, device: int | None = None) -> Reading:
        """Look once; with `device` also at deleted files on it that are still held open."""
        is_v2 = self.memory == self.pids
        used = "memory.current" if is_v2 else "memory.usage_in_bytes"
        cache = "inactive_file" if is_v2 else "total_inactive_file"
        kills = "memory.events" if is_v2 else "memory.oom_control"
        memory = _number(self.memory / used)
        if memory is not None:
            memory = max(memory - _field(self.memory / "memory.stat", cache), 0)
        return Reading(
            memory_bytes=memory,
            killed_for_memory=_field(self.memory / kills, "oom_kill"),
            forks_refused=_field(self.pids / "pids.events", "max"),
            deleted_bytes=0 if device is None else self._deleted_bytes(device),
        )

    def kill(self) -> None:
        """Kill what is in it, as far as it is this user's to kill."""
        for pid in _text(self.pids / "cgroup.procs").split():
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)

    def _deleted_bytes(self, device: int) -> int:
        held: dict[int, int] = {}
        for pid in _text(self.pids / "cgroup.procs").split():
            held.update(_deleted_files(Path("/proc") / pid / "fd", device))
        return sum(held.values())


def cgroup_of(pid: int, container_id: str) -> Cgroup | None:
    """Find the cgroup of a container by its first process; None when it is not here.

    A pid of another machine may be anybody here: the cgroup must bear the container's id.
    """
    folders: dict[str, Path] = {}
    for line in _text(Path(f"/proc/{pid}/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if container_id not in path:
            continue
        for name in controllers.split(","):
            folders[name] = _ROOT / name / path.lstrip("/")
        if not controllers:
            folders[""] = _ROOT / path.lstrip("/")
    if "memory" in folders and "pids" in folders:
        return Cgroup(folders["memory"], folders["pids"])
    unified = folders.get("")
    if unified is not None and (unified / "memory.current").exists():
        return Cgroup(unified, unified)
    return None


def find_cgroup(container_id: str) -> Cgroup | None:
    """Find the cgroup of a container when the engine cannot be asked for its process."""
    for folder in Path("/proc").glob("[0-9]*"):
        found = cgroup_of(int(folder.name), container_id)
        if found is not None:
            return found
    return None


def _deleted_files(folder: Path, device: int) -> dict[int, int]:
    """Map inodes to bytes, of files on this device that have no name any more."""
    held: dict[int, int] = {}
    try:
        numbers = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return held
    for number in numbers:
        try:
            status = os.stat(f"{folder}/{number}")  # noqa: PTH116
        except OSError:
            continue
        if status.st_nlink == 0 and status.st_dev == device:
            held[status.st_ino] = status.st_blocks * 512
    return held


def _field(file: Path, name: str) -> int:
    for line in _text(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    """Read a file of the kernel's; "" when it is gone, as with the container."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
