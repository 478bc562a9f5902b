"""What is measured before and after a fault: files outside the node, what its processes hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

# Where a program that oversteps would write.  /tmp, /home and /root belong to everybody who works
# on the machine: the node under test has a TMPDIR and a HOME of its own instead.
_SYSTEM = ("/etc", "/opt", "/usr/local", "/var/lib", "/var/spool")
_OF_OTHERS = tuple(
    f"/var/lib/{name}"
    for name in (
        "apt", "chrony", "containerd", "docker", "dpkg", "logrotate", "NetworkManager",
        "postgresql", "prometheus", "snapd", "systemd", "upower",
    )
)
PROGRAMS = {"up", "receiver", "dispatcher", "worker", "router", "housekeeper", "web"}


@dataclass(frozen=True)
class Usage:
    """What one program holds: descriptors, threads, resident bytes."""

    descriptors: int
    threads: int
    rss_bytes: int


@dataclass(frozen=True)
class Outside:
    """What stood outside the node's folders: size and change time of each file."""

    folders: tuple[Path, ...]
    files: Mapping[str, tuple[int, int]]

    @classmethod
    def look(cls, *own: Path) -> Outside:
        """Look at the system's folders, and at the HOME and TMPDIR that the node was given."""
        folders = (*map(Path, _SYSTEM), *own)
        return cls(folders, dict(_files_with_facts(folders)))

    def changes(self) -> Iterator[str]:
        """Say what was made or changed since."""
        after = dict(_files_with_facts(self.folders))
        for path in sorted(set(after) - set(self.files)):
            yield f"{path} was made"
        for path, facts in self.files.items():
            if path in after and after[path] != facts:
                yield f"{path} was changed"


def _files_with_facts(tops: Iterable[Path]) -> Iterator[tuple[str, tuple[int, int]]]:
    # Not os.walk: it recurses, and a test may have left folders deeper than Python goes.
    folders = [str(top) for top in tops if top.is_dir()]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.path in _OF_OTHERS:
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield entry.path, (facts.st_size, facts.st_mtime_ns)


def usage(processes: Iterable[psutil.Process]) -> dict[str, Usage]:
    """Sum what each program holds, by the last word of its command line."""
    totals: dict[str, Usage] = {}
    for one in processes:
        try:
            name = program_of(one)
            held = Usage(one.num_fds(), one.num_threads(), one.memory_info().rss)
        except psutil.Error:
            continue
        had = totals.get(name, Usage(0, 0, 0))
        totals[name] = Usage(
            had.descriptors + held.descriptors,
            had.threads + held.threads,
            had.rss_bytes + held.rss_bytes,
        )
    return totals


def program_of(process: psutil.Process) -> str:
    """Name a process of the node: receiver, worker, gearmand, …"""
    words = process.cmdline()
    if "supervisor.supervisord" in words:
        return "supervisord"
    ours = [word for word in words if word in PROGRAMS]
    if "appliance.cli" in words and ours:
        return ours[0]
    return Path(words[0]).name if words else process.name()
