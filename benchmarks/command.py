"""The command line that every benchmark has: `python -m benchmarks.receive --case ct-1 --json`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import NoReturn

from benchmarks import machine, report
from benchmarks.plan import NotMeasured, Plan
from benchmarks.rows import Row, as_json, text

# One that has no peer to be compared with prints what it saw, and has no rows.
Benchmark = Callable[[Plan], list[Row] | None]
_SHARED_MEMORY = Path("/dev/shm")
# A case ends within 60 s, with the start of the node and of its peers, and their stop.
_CASE_SECONDS = 32.0
# All of them end within five minutes.
_QUICK_SECONDS, _QUICK_ROUNDS, _QUICK_RUNS, _QUICK_SHARE = 6.0, 3, 5, 0.3


def main(name: str, benchmark: Benchmark, cases: Sequence[str]) -> NoReturn:
    """Run one benchmark as a command, and end the process."""
    one = parser(f"python -m benchmarks.{name}", cases)
    sys.exit(run({name: benchmark}, one.parse_args()))


def parser(program: str, cases: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser of the options that all share."""
    made = argparse.ArgumentParser(prog=program)
    made.add_argument("--quick", action="store_true", help="all within five minutes")
    made.add_argument(
        "--case", action="append", default=[], choices=cases, metavar="NAME",
        help=f"this case, within 60 s; may be repeated: {', '.join(cases)}",
    )  # fmt: skip
    made.add_argument(
        "--peer", action="append", default=[], metavar="NAME",
        help="only beside this peer; may be repeated",
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="print rows for a program")
    made.add_argument("--folder", type=Path, help="where to write, on the disk that is meant")
    made.add_argument(
        "--tmpfs", type=Path, default=_SHARED_MEMORY, help="where to write in memory (/dev/shm)"
    )
    made.add_argument("--into", type=Path, help="put the table into this README")
    made.add_argument("--seconds", type=float, help="go on with each case for so long")
    return made


def run(benchmarks: dict[str, Benchmark], asked: argparse.Namespace) -> int:
    """Run some benchmarks as they were asked for; the exit code."""
    # Whoever stops us wants the node and its peers to be stopped, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rows: list[Row] = []
    said = ""
    problems = []
    with _folders(asked.folder, asked.tmpfs) as (folder, tmpfs):
        about = f"{machine.describe(folder)}\nin memory {machine.file_system(tmpfs)}"
        print(about, file=sys.stderr, flush=True)
        for name, benchmark in benchmarks.items():
            try:
                some, words = _measured(benchmark, asked, folder / name, tmpfs / name)
            except NotMeasured as problem:
                problems.append(f"{name}: {problem}")
                print(problems[-1], file=sys.stderr, flush=True)
                continue
            rows += some
            said += words
            print(text(some) + words, file=sys.stderr if asked.json else sys.stdout, flush=True)
    about += f"\nload     {machine.load()} (1, 5, 15 min) after the last run"
    if asked.json:
        print(as_json(rows, machine=about.splitlines(), problems=problems))
    if asked.into and not problems:
        report.write(asked.into, about, rows, said)
    return 1 if problems else 0


def _measured(
    benchmark: Benchmark, asked: argparse.Namespace, folder: Path, tmpfs: Path
) -> tuple[list[Row], str]:
    """Run one; its rows, and what it said."""
    folder.mkdir()
    tmpfs.mkdir()
    with redirect_stdout(StringIO()) as words:
        rows = benchmark(plan_for(asked, folder, tmpfs))
    return rows or [], words.getvalue()


def plan_for(asked: argparse.Namespace, folder: Path, tmpfs: Path) -> Plan:
    """Make the plan of what was asked for."""
    plan = Plan(folder, tmpfs, cases=tuple(asked.case), peers=tuple(asked.peer))
    if asked.quick:
        plan = replace(
            plan, seconds=_QUICK_SECONDS, pairs=_QUICK_ROUNDS, runs=_QUICK_RUNS,
            share=_QUICK_SHARE,
        )  # fmt: skip
    elif asked.case:
        plan = replace(plan, seconds=_CASE_SECONDS)
    return plan if asked.seconds is None else replace(plan, seconds=asked.seconds)


@contextmanager
def _folders(folder: Path | None, tmpfs: Path) -> Iterator[tuple[Path, Path]]:
    with (
        tempfile.TemporaryDirectory(prefix="brookbox-bench-", dir=folder) as one,
        tempfile.TemporaryDirectory(prefix="brookbox-bench-", dir=tmpfs) as other,
    ):
        yield Path(one), Path(other)
