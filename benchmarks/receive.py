"""storescu sends the same instances to Brookbox, to storescp and to Orthanc, in turn."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import receivers
from benchmarks.instances import Work, works
from benchmarks.interleaved import Contender, interleave, table
from benchmarks.machine import nagle, need
from benchmarks.plan import NotMeasured, Plan
from benchmarks.receivers import Receiver

PROMISES = """\
What an answer of success promises is not the same:
  Brookbox     the file, its name, and the row of its reception are synced to the disk
  storescp     the bytes were given to the kernel; nothing is synced, there is no index
  storescp +B  the same, and the data set is written as it comes, unread
  Orthanc      the file's bytes are synced (SyncStorageArea, its default); its row is in SQLite's
               write-ahead log, which it does not sync for each instance
"sync after" is how long the machine's disks take to write what an answer left open; it makes
files durable, but no index of storescp's.  A storescu's time holds its process's start."""


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
    with nagle(nagle_is_off), ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        peers = _start(stack, folder, associations)
        contenders = [
            Contender(one.name, lambda one=one: _send(one, work.parts(associations)))  # type: ignore[misc]
            for one in peers
        ]
        timings = interleave(contenders, plan.pairs, work.renew)
        for one in peers:
            _check(one, len(work.instances) * (plan.pairs + 1))
    how = "TCP_NODELAY everywhere" if nagle_is_off else "without TCP_NODELAY but in Brookbox"
    print(f"\nreceive: {work}, storescu with {associations} association(s), {how}")
    print(table(timings, len(work.instances), work.size_bytes, on_disk=True), flush=True)


def _start(stack: ExitStack, folder: Path, associations: int) -> list[Receiver]:
    # Without --fork storescp serves one association after another.
    fork = ("--fork",) if associations > 1 else ()
    name = " ".join(("storescp", *fork))
    return [
        stack.enter_context(receivers.brookbox(folder / "brookbox")),
        stack.enter_context(receivers.storescp(name, folder / "storescp", *fork)),
        stack.enter_context(receivers.storescp(f"{name} +B", folder / "raw", *fork, "+B")),
        *stack.enter_context(receivers.orthancs(folder / "orthanc")),
    ]


def _send(receiver: Receiver, parts: Sequence[Sequence[Path]]) -> None:
    words = [need("storescu", "dcmtk"), "-aec", receiver.ae_title, "-aet", "SENDER"]
    words += ["127.0.0.1", str(receiver.port)]
    running = [
        subprocess.Popen([*words, *map(str, part)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for part in parts
    ]
    for one in running:
        said, _ = one.communicate()
        if one.returncode != 0:
            raise NotMeasured(f"storescu to {receiver.name} failed: {said.decode()[-1000:]}")


def _check(receiver: Receiver, count: int) -> None:
    if (kept := receiver.kept()) != count:
        raise NotMeasured(f"{receiver.name} keeps {kept} instances, but {count} were sent to it")
