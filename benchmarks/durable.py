"""`python -m benchmarks.durable`: an answer of success that outlives a power cut, on the disk.

`receiver.durability` is `committed`: file and name are on the disk before each answer.
Orthanc, by default, syncs the file of each instance (SyncStorageArea), its index not with each.
`durable-noisy-4` has no peer: it compares the p99 of an answer while a stream of the node
writes its OUTPUT as fast as it can with the p99 while none does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from benchmarks import command, corpus, noise, peers, receive, rounds
from benchmarks.blast import blast
from benchmarks.corpus import Corpus
from benchmarks.latency import p99_ms
from benchmarks.peers import BROOKBOX, Receiver
from benchmarks.plan import Plan
from benchmarks.receiving import Contender
from benchmarks.rounds import Figure
from benchmarks.rows import Row

_ASSOCIATIONS = {"durable-ct-1": 1, "durable-ct-4": 4}
_NOISY, _NOISY_ASSOCIATIONS = "durable-noisy-4", 4
NAMES = (*_ASSOCIATIONS, _NOISY)
_IMAGES = 500


def run(plan: Plan) -> list[Row]:
    """Compare with Orthanc's default, and ours with itself beside a stream that writes."""
    made: list[Row] = []
    images = corpus.ct(plan.count(_IMAGES))
    with ExitStack() as stack:
        ours, node = stack.enter_context(peers.brookbox(plan.folder / BROOKBOX, "committed"))
        if compared := [name for name in _ASSOCIATIONS if plan.wants(name)]:
            lent = peers.receiver("orthanc", plan.folder / "orthanc", "")
            theirs = stack.enter_context(lent)
            for case in compared:
                made += _compare(case, [ours, theirs], images, plan)
        if plan.wants(_NOISY):
            made += _beside_noise(ours, noise.Noise(node), images, plan)
    return made


def _compare(case: str, receivers: list[Receiver], images: Corpus, plan: Plan) -> list[Row]:
    count = _ASSOCIATIONS[case]
    sides = [
        Contender(one.name, one, partial(_send, count), f"{count} × {receive.BLAST}").side(images)
        for one in receivers
    ]
    turns = rounds.interleave(case, sides, plan)
    return rounds.compare(case, "images/s", sides, turns)


def _beside_noise(ours: Receiver, stream: noise.Noise, images: Corpus, plan: Plan) -> list[Row]:
    """Compare the p99 of an answer with what it is when nothing else writes."""
    sender = f"{_NOISY_ASSOCIATIONS} × {receive.BLAST}"
    sides = [
        Contender("beside a stream", ours, partial(_answers, stream), sender).side(images),
        Contender("quiet", ours, partial(_answers, None), sender).side(images),
    ]
    turns = rounds.interleave(_NOISY, sides, plan)
    [row] = rounds.compare(_NOISY, "ms", sides, turns, less_is_better=True)
    row.more["times_quiet"] = round(1 / row.ratio, 2)
    row.more["stream_wrote_mb_per_second"] = row.more.pop("ours_stream_mb_per_second")
    return [row]


def _send(associations: int, receiver: Receiver, some: Corpus, watch: Callable[[], None]) -> Figure:
    os.sync()  # nothing is left to be written when it begins
    return receive.send_by_blast(associations, False, receiver, some, watch)


def _answers(
    stream: noise.Noise | None, receiver: Receiver, some: Corpus, watch: Callable[[], None]
) -> Figure:
    """Send all of it; the p99 of an answer in ms."""
    os.sync()
    parts = some.parts(_NOISY_ASSOCIATIONS)
    if stream is None:
        sent = blast(receiver.address, parts, watch=watch)
        return Figure(p99_ms(sent.answers), {"images_per_second": len(some.images) / sent.seconds})
    with stream.writing() as written:
        sent = blast(receiver.address, parts, watch=watch)
        rate = written() / sent.seconds / 1e6
    more = {"images_per_second": len(some.images) / sent.seconds, "stream_mb_per_second": rate}
    return Figure(p99_ms(sent.answers), more)


if __name__ == "__main__":
    command.main("durable", run, NAMES)
