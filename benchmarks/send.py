"""Brookbox's router and storescu send the same files to the same storescp, in turn."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from appliance.dicom import part10
from appliance.router import store_scu
from appliance.router.rules import Destination
from appliance.router.store_scu import SENT, Outgoing, Result
from appliance.settings import Settings
from benchmarks import receivers
from benchmarks.instances import Work, works
from benchmarks.interleaved import Contender, interleave, table
from benchmarks.machine import nagle, need
from benchmarks.plan import NotMeasured, Plan
from benchmarks.receivers import Receiver

WHAT = """\
storescp throws away what it is sent (--ignore), so that the senders are what is measured.
Brookbox's SCU runs in this process, as in its router, which runs all the time; without the
rows of a delivery.  storescu's time holds its process's start."""


def run(plan: Plan) -> None:
    """Compare them without Nagle's algorithm, and with it on in DCMTK."""
    print(WHAT)
    made = works(plan)
    for work in made:
        compare(plan, work, nagle_is_off=True)
    for work in made:
        compare(plan, work.fifth(), nagle_is_off=False)


def compare(plan: Plan, work: Work, *, nagle_is_off: bool) -> None:
    """Compare them once, and print the table."""
    work.renew(0)
    paths = [one.path for one in work.instances]
    outgoing = [_outgoing(path) for path in paths]
    folder = plan.folder / f"sink-{nagle_is_off}-{len(paths)}-{work.size_bytes}"
    with nagle(nagle_is_off), receivers.storescp("sink", folder, "--ignore") as sink:
        contenders = [
            Contender(receivers.BROOKBOX, lambda: _by_brookbox(sink, outgoing)),
            Contender("storescu", lambda: _by_storescu(sink, paths)),
        ]
        timings = interleave(contenders, plan.pairs, lambda number: None)
    how = "TCP_NODELAY everywhere" if nagle_is_off else "without TCP_NODELAY but in Brookbox"
    print(f"\nsend: {work}, one association, {how}")
    print(table(timings, len(paths), work.size_bytes, on_disk=False), flush=True)


def _outgoing(path: Path) -> Outgoing:
    meta, header, _ = part10.read_file(path)
    return Outgoing(header.sop_class_uid, header.sop_instance_uid, meta.transfer_syntax_uid, path)


def _by_brookbox(sink: Receiver, outgoing: Sequence[Outgoing]) -> None:
    destination = Destination("sink", sink.ae_title, "127.0.0.1", sink.port, "BROOKBOX")
    results: list[Result] = []
    store_scu.send(destination, outgoing, Settings(), on_result=results.append)
    sent = [one for one in results if one.kind == SENT]
    if len(sent) != len(outgoing):
        raise NotMeasured(f"Brookbox sent {len(sent)} of {len(outgoing)} instances")


def _by_storescu(sink: Receiver, paths: Sequence[Path]) -> None:
    words = [need("storescu", "dcmtk"), "-aec", sink.ae_title, "127.0.0.1", str(sink.port)]
    done = subprocess.run([*words, *map(str, paths)], capture_output=True, text=True)
    if done.returncode != 0:
        raise NotMeasured(f"storescu failed: {(done.stdout + done.stderr)[-1000:]}")
