"""`python -m benchmarks [receive] [send] [road]`: none named means all of them."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import machine, receive, road, send
from benchmarks.plan import NotMeasured, Plan

BENCHMARKS: dict[str, Callable[[Plan], None]] = {
    "receive": receive.run,
    "send": send.run,
    "road": road.run,
}


def main() -> int:
    """Run what was asked for; the exit code."""
    parser = _parser()
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    # Whoever stops us wants the node and its peers to be stopped, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    for name in asked.names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="brookbox-bench-", dir=asked.folder) as folder:
            plan = Plan(Path(folder), asked.pairs, asked.runs, asked.share)
            print(f"\n== {name}\n{machine.describe(plan.folder)}", flush=True)
            try:
                BENCHMARKS[name](plan)
            except NotMeasured as problem:
                print(f"{name}: {problem}", file=sys.stderr)
                return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--pairs", type=int, default=5, help="interleaved runs (5)")
    parser.add_argument("--runs", type=int, default=20, help="studies on the road (20)")
    parser.add_argument("--share", type=float, default=1.0, help="share of the instances (1)")
    parser.add_argument("--folder", type=Path, help="where to write, on the disk that is meant")
    return parser


if __name__ == "__main__":
    sys.exit(main())
