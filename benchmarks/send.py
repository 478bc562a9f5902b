"""`python -m benchmarks.send`: our sender, DCMTK's storescu and pynetdicom send the same files.

Ours is the one of the router, in a process that runs already, as the router does; storescu's
times hold its start.  DCMTK's storescp receives: beside storescu with TCP_NODELAY on both
sides and --ignore, so that the senders are what is measured; beside pynetdicom as it is
shipped, where Nagle's algorithm costs a sender 40 ms an image that does not mind it.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian

from appliance.router.store_scu import Outgoing
from benchmarks import account, command, corpus, held, peers, rounds, senders
from benchmarks.corpus import Corpus
from benchmarks.machine import need
from benchmarks.peers import BROOKBOX, NODELAY, Receiver
from benchmarks.plan import Plan
from benchmarks.rounds import Figure, Side, Turn
from benchmarks.rows import Row
from benchmarks.senders import Spent

NAMES = ("send-ct", "send-mr")
_COUNTS = {"send-ct": 500, "send-mr": 1000}
_SLOW_SHARE, _FIRST_SHARE = 10, 5
_WATCH_SECONDS = 0.005
_OURS = "the router's sender (appliance.router.store_scu.send)"
Send = Callable[[Receiver, Sequence[Outgoing]], Spent]


def run(plan: Plan) -> list[Row]:
    """Compare with storescu, and where Nagle's algorithm is on with pynetdicom."""
    made: list[Row] = []
    for case in NAMES:
        if plan.wants(case):
            count = plan.count(_COUNTS[case])
            images = corpus.ct(count) if case == "send-ct" else corpus.mr(count)
            folder = plan.tmpfs / case
            sent = images.renew()
            outgoing = _written(images, folder / "files")
            made += _beside_storescu(case, outgoing, folder, plan)
            made += _beside_pynetdicom(case, outgoing, sent, folder, plan)
    return made


def _beside_storescu(
    case: str, outgoing: Sequence[Outgoing], folder: Path, plan: Plan
) -> list[Row]:
    """Compare with storescu, without Nagle's algorithm on any side."""
    command_line = [need("storescp", "dcmtk"), "-q", "--ignore"]
    with peers.listening("sink", command_line, folder / "sink", NODELAY) as sink:
        sides = [
            _side(BROOKBOX, _OURS, sink, outgoing, _in_python(BROOKBOX)),
            _side("storescu", "TCP_NODELAY=1 storescu -q", sink, outgoing, _by_storescu),
        ]
        return rounds.compare(case, "images/s", sides, rounds.interleave(case, sides, plan))


def _beside_pynetdicom(
    case: str, outgoing: Sequence[Outgoing], sent: dict[str, str], folder: Path, plan: Plan
) -> list[Row]:
    """Compare with pynetdicom, into storescp as it comes; what that holds is checked."""
    command_line = [need("storescp", "dcmtk"), "-q"]
    some = outgoing[: max(len(outgoing) // _SLOW_SHARE, 1)]
    with peers.listening("shipped", command_line, folder / "shipped", {}) as sink:
        words = f"pynetdicom's send_c_store of {len(some)} files"
        sides = [
            _side(BROOKBOX, _OURS, sink, outgoing, _in_python(BROOKBOX), sent),
            _side("pynetdicom", words, sink, some, _in_python("pynetdicom"), sent),
        ]
        return rounds.compare(case, "images/s", sides, rounds.interleave(case, sides, plan))


def _side(
    name: str, sender: str, sink: Receiver, outgoing: Sequence[Outgoing], send: Send,
    sent: dict[str, str] | None = None,
) -> Side:  # fmt: skip
    """Make what takes turns; with `sent` it is checked what the sink holds afterwards."""

    def run(is_first: bool) -> Turn:
        files = outgoing[: max(len(outgoing) // _FIRST_SHARE, 1)] if is_first else outgoing
        spent = send(sink, files)
        if sent is not None:
            wanted = {one.sop_instance_uid: sent[one.sop_instance_uid] for one in files}
            held.check(sink.folder, wanted, f"storescp, sent to by {name},")
            held.empty(sink.folder)
        figure = Figure(len(files) / spent.seconds)
        return Turn(figure, spent.cpu_seconds, spent.peak_mb, spent.seconds)

    return Side(name, f"into {sink.command}", sender, run)


def _in_python(who: str) -> Send:
    return lambda sink, outgoing: senders.send(who, sink.address, outgoing)


def _by_storescu(sink: Receiver, outgoing: Sequence[Outgoing]) -> Spent:
    """Send by DCMTK's storescu; its start is in the time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = peers.storescu(sink.address, [one.path for one in outgoing], NODELAY)
    peak_mb = 0.0
    while process.poll() is None:
        peak_mb = max(peak_mb, account.peak_mb([process.pid]))
        time.sleep(_WATCH_SECONDS)
    seconds = time.perf_counter() - began
    peers.finish(process, sink.name)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(seconds, cpu, peak_mb)


def _written(images: Corpus, folder: Path) -> list[Outgoing]:
    paths = images.write(folder)
    return [
        Outgoing(one.sop_class_uid, one.sop_instance_uid, str(ExplicitVRLittleEndian), path)
        for one, path in zip(images.images, paths, strict=True)
    ]


if __name__ == "__main__":
    command.main("send", run, NAMES)
