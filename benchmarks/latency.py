"""`python -m benchmarks.latency`: one image an association, as many scanners send.

A run sends images one after another, each over an association of its own: connect, negotiate,
store, release.  How long that takes, in the middle (p50) and at worst but one in a hundred
(p99); and how far our rows are behind an answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from statistics import median, quantiles
from typing import Any

from benchmarks import command, corpus, peers, receiving, rounds
from benchmarks.blast import blast
from benchmarks.corpus import Corpus
from benchmarks.peers import BROOKBOX, Receiver
from benchmarks.plan import NotMeasured, Plan
from benchmarks.receiving import Contender
from benchmarks.rounds import Figure
from benchmarks.rows import Row

NAMES = ("latency-1",)
SENDER = "benchmarks.blast, TCP_NODELAY and TCP_QUICKACK, an association an image"
_IMAGES, _LOOKS, _DISK_RUNS = 400, 30, 3
_IN_MEMORY = 0.5  # of the time; the rest is for what is looked at beside it
_ROWS_PATIENCE_SECONDS = 30


def run(plan: Plan) -> list[Row]:
    """Compare with DCMTK's default in memory; with a durable answer on the disk beside it."""
    if not plan.wants("latency-1"):
        return []
    images = corpus.mr(plan.count(_IMAGES))
    with ExitStack() as stack:
        contenders = [
            Contender(
                name, stack.enter_context(peers.receiver(name, plan.tmpfs / name, "none")),
                one_each, SENDER,
            )
            for name in (BROOKBOX, "dcmtk")
        ]  # fmt: skip
        sides = [one.side(images) for one in contenders]
        in_memory = replace(plan, seconds=plan.seconds * _IN_MEMORY)
        turns = rounds.interleave("latency-1", sides, in_memory)
        more: dict[str, Any] = {"rows_behind_ms": _rows_behind(contenders[0].receiver, images)}
    more |= _on_disk(plan, images)
    [row] = rounds.compare("latency-1", "ms", sides, turns, less_is_better=True)
    row.more.update(more)
    row.more["p99_to_our_median"] = round(row.more["ours_p99_ms"] / row.ours, 2)
    return [row]


def one_each(receiver: Receiver, some: Corpus, watch: Callable[[], None]) -> Figure:
    """Send all of it, an association an image; the median in ms, and the p99."""
    sent = blast(receiver.address, [some.images], one_each=True, watch=watch)
    return Figure(median(sent.answers) * 1000, {"p99_ms": p99_ms(sent.answers)})


def p99_ms(seconds: list[float]) -> float:
    """Give the time in ms that one of a hundred takes longer than."""
    return quantiles(seconds, n=100, method="inclusive")[98] * 1000 if len(seconds) > 1 else 0.0


def _rows_behind(receiver: Receiver, images: Corpus) -> float:
    """Say how long after its answer the row of an image was there, at worst; in ms."""
    rows_of = receiver.rows
    assert rows_of is not None
    longest = 0.0
    for image in images.images[:_LOOKS]:
        uids = list(Corpus("", [image]).renew())
        blast(receiver.address, [[image]])
        answered = time.perf_counter()
        while not rows_of(uids):
            if time.perf_counter() - answered > _ROWS_PATIENCE_SECONDS:
                raise NotMeasured(f"{receiver.name} has no row of {uids[0]}")
            time.sleep(0.001)
        longest = max(longest, time.perf_counter() - answered)
    return round(longest * 1000, 1)


def _on_disk(plan: Plan, images: Corpus) -> dict[str, Any]:
    """Measure ours once more where success means durable, on the disk."""
    with peers.receiver(BROOKBOX, plan.folder / BROOKBOX, "committed") as receiver:
        one = Contender(BROOKBOX, receiver, one_each, SENDER)
        os.sync()
        some = images.first(max(len(images.images) // 2, 1))
        figures = [receiving.take(one, some).figure for _ in range(_DISK_RUNS)][1:]
    return {
        "committed_on_disk_ms": round(median(one.value for one in figures), 3),
        "committed_on_disk_p99_ms": round(median(one.more["p99_ms"] for one in figures), 3),
    }


if __name__ == "__main__":
    command.main("latency", run, NAMES)
