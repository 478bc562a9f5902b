"""storescu sends the same instances to Brookbox, to storescp and to Orthanc, in turn."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from functools import partial

from benchmarks import peers
from benchmarks.instances import Work, works
from benchmarks.interleaved import Contender, interleave, table
from benchmarks.plan import NotMeasured, Plan

PROMISES = """\
What an answer of success promises is not the same:
  Brookbox     the file, its name, and the row of its reception are synced to the disk
  storescp     the bytes were given to the kernel; nothing is synced, there is no index
  storescp +B  the same, and the data set is written as it comes, unread
  Orthanc      the file's bytes are synced (SyncStorageArea, its default); its row is in SQLite's
               write-ahead log, which is not synced for each instance
"sync after" is how long the machine's disks take to write what the answers left open: it makes
the files durable, but no index of storescp's.  The times hold the start of storescu."""


def run(plan: Plan) -> None:
    """Compare them over one association and over four, and with Nagle's algorithm on."""
    print(PROMISES)
    made = works(plan)
    for work in made:
        for associations in (1, 4):
            compare(plan, work, associations, nagle_is_off=True)
    for work in made:
        compare(plan, work.fifth(), 1, nagle_is_off=False)


def compare(plan: Plan, work: Work, associations: int, *, nagle_is_off: bool) -> None:
    """Compare them once, all of them new and empty, and print the table."""
    folder = plan.folder / "receivers"
    # Without --fork storescp serves one association after another.
    fork = ("--fork",) if associations > 1 else ()
    name = " ".join(("storescp", *fork))
    with ExitStack() as stack:
        sockets = stack.enter_context(peers.nagle(nagle_is_off))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        receivers = [
            stack.enter_context(peers.brookbox(folder / "brookbox")),
            stack.enter_context(peers.storescp(name, folder / "storescp", *fork)),
            stack.enter_context(peers.storescp(f"{name} +B", folder / "raw", *fork, "+B")),
            *stack.enter_context(peers.orthancs(folder / "orthanc")),
        ]
        parts = work.parts(associations)
        contenders = [Contender(one.name, partial(peers.storescu, one, parts)) for one in receivers]
        timings = interleave(contenders, plan.pairs, work.renew)
        for one in receivers:
            _check(one, len(work.instances) * (plan.pairs + 1))
    print(f"\nreceive: {work} over {len(parts)} x storescu; {sockets}; {plan}")
    print(table(timings, len(work.instances), work.size_bytes, on_disk=True), flush=True)


def _check(receiver: peers.Receiver, count: int) -> None:
    if (kept := receiver.kept()) != count:
        raise NotMeasured(f"{receiver.name} keeps {kept} instances, but {count} were sent to it")
