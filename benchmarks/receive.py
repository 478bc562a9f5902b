"""`python -m benchmarks.receive`: our whole node and its peers receive the same images, in turn.

All of them write to the same tmpfs, and nobody waits for a disk: `receiver.durability` is
`none` here, which is what DCMTK's storescp always does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import command, corpus, peers, rounds
from benchmarks.blast import blast
from benchmarks.corpus import Corpus
from benchmarks.peers import BROOKBOX, Receiver
from benchmarks.plan import Plan
from benchmarks.pool import Lend, pool
from benchmarks.receiving import Contender
from benchmarks.rounds import Figure
from benchmarks.rows import Row

AT_FOUR = "brookbox-at-4"
BLAST = "benchmarks.blast, TCP_NODELAY and TCP_QUICKACK, an association"
AS_SHIPPED = "storescu as shipped, without TCP_NODELAY"


@dataclass(frozen=True, slots=True)
class Case:
    """How many images of which kind over how many associations, and into whom beside us."""

    name: str
    kind: str
    count: int
    associations: int
    peers: tuple[str, ...]
    as_shipped: bool = False


CASES = (
    Case("ct-1", "ct", 500, 1, ("dcmtk", "dcmtk-raw", "dcmtk-su", "orthanc", "pynetdicom")),
    Case("ct-4", "ct", 1000, 4, ("dcmtk-fork", "dcmtk-fork-raw", "orthanc")),
    Case("ct-8", "ct", 1000, 8, ("dcmtk-fork", "dcmtk-fork-raw", AT_FOUR)),
    Case("ct-16", "ct", 1000, 16, ("dcmtk-fork", "dcmtk-fork-raw", AT_FOUR)),
    Case("ct-64", "ct", 768, 64, ("dcmtk-fork", "dcmtk-fork-raw", AT_FOUR)),
    Case("mr-1", "mr", 2000, 1, ("dcmtk", "dcmtk-raw", "orthanc", "pynetdicom")),
    Case("mr-4", "mr", 4000, 4, ("dcmtk-fork", "dcmtk-fork-raw", "orthanc")),
    Case("mf-1", "mf", 2, 1, ("dcmtk", "dcmtk-raw", "orthanc")),
    Case("nagle-1", "ct", 60, 1, ("dcmtk", "orthanc"), as_shipped=True),
)
NAMES = tuple(case.name for case in CASES)
_WATCH_SECONDS = 0.002


def run(plan: Plan) -> list[Row]:
    """Measure the wanted cases."""
    made: list[Row] = []
    wanted = [case for case in CASES if plan.wants(case.name)]
    with pool(plan.tmpfs, "none") as lend:
        for case in wanted:
            made += measure(case, plan, lend)
    return made


def measure(case: Case, plan: Plan, lend: Lend) -> list[Row]:
    """Measure one case; `lend` gives a receiver by name, with TCP_NODELAY or as shipped."""
    made = _made(case, plan)
    sides = [
        _contender(case, name, plan.tmpfs / "sent", lend).side(made)
        for name in (BROOKBOX, *case.peers)
        if name == BROOKBOX or not plan.peers or name in plan.peers
    ]
    turns = rounds.interleave(case.name, sides, plan)
    unit = "MB/s" if case.kind == "mf" else "images/s"
    return rounds.compare(case.name, unit, sides, turns)


def send_by_blast(
    associations: int, is_mb: bool, receiver: Receiver, some: Corpus, watch: Callable[[], None]
) -> Figure:
    """Send all of it with the benchmarks' own sender; images, or MB, a second."""
    sent = blast(receiver.address, some.parts(associations), watch=watch)
    return Figure((some.size_bytes / 1e6 if is_mb else len(some.images)) / sent.seconds)


def _contender(case: Case, name: str, folder: Path, lend: Lend) -> Contender:
    if case.as_shipped:
        send = partial(send_by_storescu, case.associations, {}, folder)
        return Contender(name, lend(name, False), send, AS_SHIPPED)
    associations = 4 if name == AT_FOUR else case.associations
    receiver = lend(BROOKBOX if name == AT_FOUR else name, True)
    by_blast = partial(send_by_blast, associations, case.kind == "mf")
    return Contender(name, receiver, by_blast, f"{associations} × {BLAST}")


def send_by_storescu(
    associations: int, environment: dict[str, str], folder: Path,
    receiver: Receiver, some: Corpus, watch: Callable[[], None],
) -> Figure:  # fmt: skip
    """Send all of it with storescu, one for each association; images a second."""
    files = iter(some.write(folder))
    parts = [[next(files) for _ in part] for part in some.parts(associations)]
    began = time.perf_counter()
    running = [peers.storescu(receiver.address, part, environment) for part in parts]
    while any(one.poll() is None for one in running):
        watch()
        time.sleep(_WATCH_SECONDS)
    seconds = time.perf_counter() - began
    for one in running:
        peers.finish(one, receiver.name)
    return Figure(len(some.images) / seconds)


def _made(case: Case, plan: Plan) -> Corpus:
    if case.kind == "mf":
        return corpus.multi_frame(corpus.FRAMES[: plan.count(case.count)])
    return (corpus.ct if case.kind == "ct" else corpus.mr)(plan.count(case.count))


if __name__ == "__main__":
    command.main("receive", run, NAMES)
