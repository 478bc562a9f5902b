"""Whether the processes of a node grow with the jobs that they have done: a measure for leaks.

Memory is what a process alone has written (private dirty pages, from smaps_rollup): resident
memory counts what it shares, and moves with the machine's page cache.  A leak shows in what is
added from one sample to the next, which tells 10 kB a job in a worker of 75 MB long before a tenth
more is held.

What a sound process takes while it finds its size looks like a leak at first: the allocator has a
heap for each of several threads at once.  A worker is done with that after 20 jobs (2 to 4 kB a
job are seen then, less with each hundred), a receiver after 200 associations (16 kB, then 3).
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.measures import PROGRAMS, program_of
from tests.kit.node import Node

# A leak of 10 kB a job is above it, since what it adds to does not shrink; what is sound, below.
MOST_BYTES_A_JOB = 8_000
# A pool that fills up late, a thread that is just beginning: not growth.
_SPARE_DESCRIPTORS, _SPARE_THREADS = 8, 3
# What runs as long as the node does.  What comes and goes with a job (a stream's run, what starts
# it) may stand in the first and in the last sample by chance: no growth can be told of it.
_LASTING = PROGRAMS | {"gearmand", "supervisord"}
_FEWEST_SAMPLES = 4  # both ends of what was added between them do not count


@dataclass(frozen=True)
class Held:
    """What one program holds, its processes together."""

    descriptors: int = 0
    threads: int = 0
    private_bytes: int = 0

    def __add__(self, other: Held) -> Held:
        return Held(
            self.descriptors + other.descriptors,
            self.threads + other.threads,
            self.private_bytes + other.private_bytes,
        )


@dataclass
class Growth:
    """Samples of every program of a node, each after a number of jobs."""

    node: Node
    samples: list[tuple[int, dict[str, Held]]] = field(default_factory=list)

    def sample(self, jobs: int) -> None:
        """Look at every process now, when so many jobs have ended."""
        found: dict[str, Held] = {}
        for process in self.node.family():
            try:
                name, held = program_of(process), _held(process, self.node.layout.studies)
            except (psutil.Error, OSError):
                continue  # a run of a stream, which has ended
            if name not in _LASTING:
                continue
            found[name] = found.get(name, Held()) + held
        self.samples.append((jobs, found))

    def between(self, first: int, last: int) -> Growth:
        """Give the samples that were taken after so many jobs."""
        return Growth(self.node, [one for one in self.samples if first <= one[0] <= last])

    def bytes_a_job(self, program: str) -> float:
        """Give how many bytes of memory a job leaves: the mean of what was added between samples.

        The tenth at each end does not count: a process that was being forked counts twice for
        a moment, and now and then a heap is opened or closed.  0 when there are too few samples.
        """
        points = [(jobs, held[program].private_bytes) for jobs, held in self._with(program)]
        added = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(points))
        cut = max(1, len(added) // 10)
        counted = added[cut:-cut]
        return statistics.mean(counted) if counted else 0.0

    def findings(
        self, window: int, *settled: str, most_bytes_a_job: int = MOST_BYTES_A_JOB
    ) -> list[str]:
        """Say what grew between the first and the last `window` jobs, by a tenth or by the job.

        What is added with each job counts for the programs that are `settled`; none named: all.
        A program that was not there at each sample is named: of it nothing can be said.
        """
        if len(self.samples) < _FEWEST_SAMPLES:
            return [f"{len(self.samples)} samples are too few to tell a growth"]
        start, end = self.samples[0][0], self.samples[-1][0]
        first, last = self.between(start, start + window), self.between(end - window, end)
        told = [f"{name}: not there at each sample" for name in self.missing()]
        for name in self.programs():
            was, now = first._typical(name), last._typical(name)
            if now.descriptors > was.descriptors + _SPARE_DESCRIPTORS:
                told.append(f"{name}: {was.descriptors} descriptors, then {now.descriptors}")
            if now.threads > was.threads + _SPARE_THREADS:
                told.append(f"{name}: {was.threads} threads, then {now.threads}")
            if now.private_bytes > was.private_bytes * 1.1:
                told.append(f"{name}: {was.private_bytes} bytes, then {now.private_bytes}")
            added = self.bytes_a_job(name)
            if added > most_bytes_a_job and (not settled or name in settled):
                told.append(f"{name}: {added:.0f} bytes more with each job")
        return told

    def programs(self) -> list[str]:
        """List what was there at each sample."""
        return sorted(set.intersection(*(set(held) for _, held in self.samples)))

    def missing(self) -> list[str]:
        """List what was there at some samples only: it ended meanwhile, or was not seen."""
        return sorted(set.union(*(set(held) for _, held in self.samples)) - set(self.programs()))

    def table(self) -> str:
        """Tell the figures, a line for each program."""
        lines = []
        for name in self.programs():
            first, last = self.samples[0][1][name], self.samples[-1][1][name]
            lines.append(
                f"{name:<12} {first.private_bytes / 1e6:6.1f} -> {last.private_bytes / 1e6:6.1f} MB"
                f" {self.bytes_a_job(name) / 1e3:7.2f} kB a job; descriptors {first.descriptors} ->"
                f" {last.descriptors}, threads {first.threads} -> {last.threads}"
            )
        return "\n".join(lines)

    def _with(self, program: str) -> Sequence[tuple[int, dict[str, Held]]]:
        return [one for one in self.samples if program in one[1]]

    def _typical(self, program: str) -> Held:
        found = [held[program] for _, held in self._with(program)]
        return Held(
            # What is open for a moment, for the run of a job, is no growth.
            min(one.descriptors for one in found),
            min(one.threads for one in found),
            round(statistics.median(one.private_bytes for one in found)),
        )


def _held(process: psutil.Process, studies: Path) -> Held:
    return Held(
        _descriptors(process.pid, studies), process.num_threads(), _private_bytes(process.pid)
    )


def _descriptors(pid: int, studies: Path) -> int:
    """Count them, but for the open series folders: so many as came lately, and 200 at most."""
    found = 0
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += not one.readlink().is_relative_to(studies)
    return found


def _private_bytes(pid: int) -> int:
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size.split()[0]) for name, size in (row.split(":") for row in rows)}
    return 1024 * (sizes["Private_Dirty"] + sizes["Swap"])
