"""`python -m benchmarks.wire`: the same over a wire of 1 Gbit/s, 2 ms there and back.

`-shipped` is DCMTK's storescu into all of them as they come, with Nagle's algorithm on; the
others are the benchmarks' own sender, and TCP_NODELAY everywhere.  Each row says what the wire
lets through at most: one association sends the next image when the one before is answered, so
that each costs a round trip as well.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from functools import partial

from benchmarks import command, corpus, forked, gigabit, receive, rounds
from benchmarks.blast import enter
from benchmarks.corpus import Corpus
from benchmarks.gigabit import Wire
from benchmarks.peers import BROOKBOX
from benchmarks.plan import Plan
from benchmarks.pool import Lend, pool
from benchmarks.receiving import Contender
from benchmarks.rows import Row

_LOOKS, _BYTES = 100, 60_000_000
_SHARE_OF_PAYLOAD = 1448 / 1538  # of a full frame, with all that is around it


@dataclass(frozen=True, slots=True)
class Case:
    """Which images over how many associations, and whether all are as shipped."""

    name: str
    kind: str
    count: int
    associations: int
    as_shipped: bool


CASES = tuple(
    Case(f"wire-{kind}-{associations}{'-shipped' if as_shipped else ''}", kind,
         count // 3 if as_shipped else count, associations, as_shipped)
    for as_shipped in (False, True)
    for kind, count in (("ct", 240), ("mr", 480))
    for associations in (1, 4)
)  # fmt: skip
NAMES = tuple(case.name for case in CASES)


def run(plan: Plan) -> list[Row]:
    """Measure the wanted cases over one wire."""
    made: list[Row] = []
    with gigabit.wire() as wire, pool(plan.tmpfs, "none", wire) as lend:
        facts = quality(wire)
        for case in CASES:
            if plan.wants(case.name):
                made += _measure(case, plan, lend, facts)
    return made


def _measure(case: Case, plan: Plan, lend: Lend, facts: dict[str, float]) -> list[Row]:
    count = plan.count(case.count)
    images = corpus.ct(count) if case.kind == "ct" else corpus.mr(count)
    names = (BROOKBOX, "dcmtk" if case.associations == 1 else "dcmtk-fork", "orthanc")
    sides = [_contender(case, name, plan, lend).side(images) for name in names]
    turns = rounds.interleave(case.name, sides, plan)
    limit = _limit(images, case.associations)
    made = rounds.compare(case.name, "images/s", sides, turns)
    for row in made:
        row.more["wire_allows"] = round(limit, 1)
        row.more["ours_of_it"] = round(row.ours / limit, 2)
        row.more["theirs_of_it"] = round(row.theirs / limit, 2)
        row.more.update(facts)
    return made


def _contender(case: Case, name: str, plan: Plan, lend: Lend) -> Contender:
    receiver = lend(name, not case.as_shipped)
    if case.as_shipped:
        files = plan.tmpfs / "sent"
        send = partial(receive.send_by_storescu, case.associations, {}, files)
        return Contender(name, receiver, send, f"{case.associations} × {receive.AS_SHIPPED}")
    by_blast = partial(receive.send_by_blast, case.associations, False)
    return Contender(name, receiver, by_blast, f"{case.associations} × {receive.BLAST}")


def _limit(images: Corpus, associations: int) -> float:
    """Say how many images a second the wire lets through."""
    each = images.size_bytes / len(images.images)
    seconds = each / (gigabit.BYTES_PER_SECOND * _SHARE_OF_PAYLOAD)
    waiting = gigabit.ROUND_TRIP_SECONDS
    return min(1 / seconds, associations / (seconds + waiting))


def quality(wire: Wire) -> dict[str, float]:
    """Say what the wire is in fact: its round trip, and what TCP brings through it."""
    with socket.create_server((wire.here, 0)) as listener:
        port = listener.getsockname()[1]
        pid, end = forked.start(partial(_far_end, wire, port))
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(_LOOKS):
                connection.sendall(connection.recv(1))
            while connection.recv(1 << 20):
                pass
            connection.sendall(b"\0")
    with os.fdopen(end, "rb") as file:
        ending = forked.read(file.read())
    os.waitpid(pid, 0)
    round_trip, rate = ending.answer
    return {"wire_round_trip_ms": round(round_trip * 1000, 2), "wire_mb_per_s": round(rate, 1)}


def _far_end(wire: Wire, port: int) -> tuple[float, float]:
    """Measure from the other end: the round trip in the middle, and MB a second."""
    enter(wire.namespace)
    looks = []
    with socket.create_connection((wire.here, port), 60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_LOOKS):
            began = time.perf_counter()
            connection.sendall(b"\0")
            connection.recv(1)
            looks.append(time.perf_counter() - began)
        began = time.perf_counter()
        connection.sendall(bytes(_BYTES))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        seconds = time.perf_counter() - began
    return sorted(looks)[_LOOKS // 2], _BYTES / seconds / 1e6


if __name__ == "__main__":
    command.main("wire", run, NAMES)
