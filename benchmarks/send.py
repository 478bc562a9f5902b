"""Brookbox's router and storescu send the same files to the same storescp, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from appliance.dicom import part10
from appliance.router import store_scu
from appliance.router.rules import Destination
from appliance.router.store_scu import SENT, Outgoing, Result
from appliance.settings import Settings
from benchmarks import peers
from benchmarks.instances import Work, works
from benchmarks.interleaved import Contender, interleave, table
from benchmarks.plan import NotMeasured, Plan

WHAT = """\
storescp throws away what it is sent (--ignore), so that the senders are what is measured.
Brookbox's SCU runs in this process, as in its router, which runs all the time; without the
rows of a delivery.  storescu's times hold its start."""


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
    [paths] = work.parts(1)
    work.renew(0)
    outgoing = [_outgoing(path) for path in paths]
    folder = plan.folder / "sink"
    with peers.nagle(nagle_is_off) as sockets, peers.storescp("sink", folder, "--ignore") as sink:
        contenders = [
            Contender(peers.BROOKBOX, partial(_by_brookbox, sink, outgoing)),
            Contender("storescu", partial(peers.storescu, sink, [paths])),
        ]
        timings = interleave(contenders, plan.pairs, lambda number: None)
    print(f"\nsend: {work} in one association; {sockets}; {plan}")
    print(table(timings, len(paths), work.size_bytes, on_disk=False), flush=True)


def _outgoing(path: Path) -> Outgoing:
    meta, header, _ = part10.read_file(path)
    return Outgoing(header.sop_class_uid, header.sop_instance_uid, meta.transfer_syntax_uid, path)


def _by_brookbox(sink: peers.Receiver, outgoing: Sequence[Outgoing]) -> None:
    destination = Destination("sink", sink.ae_title, "127.0.0.1", sink.port, "BROOKBOX")
    results: list[Result] = []
    store_scu.send(destination, outgoing, Settings(), on_result=results.append)
    sent = sum(1 for one in results if one.kind == SENT)
    if sent != len(outgoing):
        raise NotMeasured(f"Brookbox sent {sent} of {len(outgoing)} instances")
