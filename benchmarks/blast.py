"""A sender that is fast enough to show what a receiver can do: raw, and from memory.

DCMTK's storescu ends near 1,000 CT images a second; this one takes no copy of an image, sends
a whole message with one sendmsg, and acknowledges at once what it is answered.  It shares no
line with the node that it measures.  Four processes share the associations; all begin at once.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import forked
from benchmarks.association import Address, Association
from benchmarks.corpus import Image
from benchmarks.plan import NotMeasured

_CLONE_NEWNET = 0x40000000
_WATCH_SECONDS = 0.02
_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Sent:
    """How long it took until the last release; seconds of each answer, or of each association."""

    seconds: float
    answers: list[float]


def blast(
    address: Address,
    parts: Sequence[Sequence[Image]],
    *,
    one_each: bool = False,
    watch: Callable[[], None] = lambda: None,
) -> Sent:
    """Send each part over an association of its own, or over one an image; NotMeasured if refused.

    `watch` is called about 50 times a second meanwhile.
    """
    gate = os.pipe()
    gc.freeze()
    # A process for each of 64 associations would cost the cores more than some receivers do.
    shares = [parts[number::_PROCESSES] for number in range(min(_PROCESSES, len(parts)))]
    senders = [forked.start(partial(_send_all, address, some, one_each), gate) for some in shares]
    began = time.perf_counter()
    os.close(gate[1])  # all of them begin
    os.close(gate[0])
    endings = _gather({end: pid for pid, end in senders}, watch)
    gc.unfreeze()
    if problems := [one.problem for one in endings if one.problem]:
        raise NotMeasured(f"sending to port {address.port} failed: {problems[0]}")
    ended = max(one.ended for one in endings)
    return Sent(ended - began, [answer for one in endings for answer in one.answer])


def _gather(pids: dict[int, int], watch: Callable[[], None]) -> list[forked.Ending]:
    """Read what all of them tell, each to its end; `pids` is by where they tell."""
    told = dict.fromkeys(pids, b"")
    left = set(pids)
    while left:
        watch()
        for end in select.select(left, [], [], _WATCH_SECONDS)[0]:
            some = os.read(end, 1 << 20)
            told[end] += some
            if not some:
                left.remove(end)
                os.close(end)
                os.waitpid(pids[end], 0)
    return [forked.read(one) for one in told.values()]


def _send_all(address: Address, parts: Sequence[Sequence[Image]], one_each: bool) -> list[float]:
    """Send each part over an association of its own, at once; the seconds of each image."""
    if address.namespace is not None:
        enter(address.namespace)
    if len(parts) == 1:
        return _send(address, parts[0], one_each)
    with ThreadPoolExecutor(len(parts)) as pool:
        told = pool.map(lambda part: _send(address, part, one_each), parts)
        return [answer for some in told for answer in some]


def _send(address: Address, images: Sequence[Image], one_each: bool) -> list[float]:
    """Send them; the seconds of each."""
    answers: list[float] = []
    if one_each:
        for image in images:
            began = time.perf_counter()
            assoc = Association(address, image.sop_class_uid)
            assoc.store(image)
            assoc.release()
            answers.append(time.perf_counter() - began)
        return answers
    assoc = Association(address, images[0].sop_class_uid)
    for image in images:
        began = time.perf_counter()
        assoc.store(image)
        answers.append(time.perf_counter() - began)
    assoc.release()
    return answers


def enter(namespace: Path) -> None:
    """Go into another network; os.setns came with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))
