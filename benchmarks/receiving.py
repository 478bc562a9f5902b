"""One run into one receiver, its account, and the check that makes it count.

A run counts only when its receiver holds every data set with the SHA-256 that was sent, and
ours has its rows, too.  What a receiver goes on doing after the last answer is waited for: it
is in its CPU seconds, and does not fall into the next one's run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from benchmarks import account, held
from benchmarks.corpus import Corpus
from benchmarks.peers import Receiver
from benchmarks.plan import NotMeasured
from benchmarks.rounds import Figure, Side, Turn
from tests.kit.waiting import wait_for

Send = Callable[[Receiver, Corpus, Callable[[], None]], Figure]
_WATCH_SECONDS = 0.1
_ROWS_SECONDS, _DIGESTS_SECONDS = 40, 10
_FIRST_SHARE = 5  # of the images are sent in the run that only warms


@dataclass(frozen=True, slots=True)
class Contender:
    """A receiver, and how it is sent to: `send` calls what it is given now and then."""

    name: str
    receiver: Receiver
    send: Send
    sender: str

    def side(self, corpus: Corpus) -> Side:
        """Make what takes turns: it sends this corpus."""
        some = corpus.first(max(len(corpus.images) // _FIRST_SHARE, 1))

        def run(is_first: bool) -> Turn:
            return take(self, some if is_first else corpus)

        return Side(self.name, self.receiver.command, self.sender, run)


def take(contender: Contender, corpus: Corpus) -> Turn:
    """Let one run, and check what it holds; NotMeasured when that is not what was sent."""
    receiver = contender.receiver
    sent = corpus.renew()
    watch = _Watch(receiver)
    cpu, node_cpu = _cpu(receiver)
    began = time.perf_counter()
    figure = contender.send(receiver, corpus, watch)
    seconds = time.perf_counter() - began
    watch.look()
    _wait_for_rows(receiver, sent)
    cpu_with_rows, _ = _cpu(receiver)
    _wait_for_digests(receiver, sent)
    account.wait_until_idle(receiver.all_processes)
    cpu_after, node_cpu_after = _cpu(receiver)
    if receiver.rows is not None:
        figure.more["cpu_s"] = cpu_after - cpu
        figure.more["cpu_s_after_the_rows"] = cpu_after - cpu_with_rows
        figure.more["node_cpu_s"] = node_cpu_after - node_cpu
    held.check(receiver.folder, sent, contender.name)
    held.empty(receiver.folder)
    return Turn(figure, cpu_after - cpu, watch.peak_mb, seconds)


class _Watch:
    """Sees how much memory the receiving processes take, also those that end before the run.

    To look for processes costs some milliseconds of CPU, so that is done once meanwhile, for
    those that receivers fork for an association.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._pids = receiver.processes()
        self._next = time.monotonic() + _WATCH_SECONDS
        self._has_searched = not receiver.forks
        self.peak_mb = 0.0
        account.forget_peaks(self._pids)

    def __call__(self) -> None:
        """Look, unless that was a moment ago."""
        if time.monotonic() < self._next:
            return
        if not self._has_searched:
            self._pids |= self._receiver.processes()
            self._has_searched = True
        self.look()
        self._next = time.monotonic() + _WATCH_SECONDS

    def look(self) -> None:
        """Look now."""
        self.peak_mb = max(self.peak_mb, account.peak_mb(self._pids))


def _cpu(receiver: Receiver) -> tuple[float, float]:
    """Give the CPU seconds so far of those that receive, and of all that belongs to them."""
    return (
        account.cpu_seconds(receiver.processes()),
        account.cpu_seconds(receiver.all_processes()),
    )


def _wait_for_rows(receiver: Receiver, sent: dict[str, str]) -> None:
    rows_of = receiver.rows
    if rows_of is None:
        return
    uids = list(sent)
    try:
        wait_for(lambda: len(rows_of(uids)) == len(uids), "all rows are there", _ROWS_SECONDS)
    except AssertionError:
        raise NotMeasured(
            f"{receiver.name} has {len(rows_of(uids))} rows of {len(uids)} instances"
        ) from None


def _wait_for_digests(receiver: Receiver, sent: dict[str, str]) -> None:
    """Wait for the digests that a node notes when nobody sends, and compare those it noted.

    A busy machine may let it wait for long; that is not waited for.
    """
    rows_of = receiver.rows
    if rows_of is None:
        return
    uids = list(sent)
    with suppress(AssertionError):
        wait_for(lambda: all(rows_of(uids).values()), "all digests are there", _DIGESTS_SECONDS)
    if wrong := [uid for uid, one in rows_of(uids).items() if one not in ("", sent[uid])]:
        raise NotMeasured(f"{receiver.name} notes another SHA-256 than was sent, of {wrong[0]}")
