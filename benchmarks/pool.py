"""Receivers that are started when somebody asks for them first, and stopped at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import peers
from benchmarks.gigabit import Wire
from benchmarks.peers import BROOKBOX, Receiver

# By name, and whether its sockets are without Nagle's algorithm; Brookbox's always are.
Lend = Callable[[str, bool], Receiver]


@contextmanager
def pool(folder: Path, durability: str, wire: Wire | None = None) -> Iterator[Lend]:
    """Lend receivers; with a wire they are sent to from its other end."""
    started: dict[tuple[str, bool], Receiver] = {}
    address = "127.0.0.1" if wire is None else "0.0.0.0"
    with ExitStack() as stack:

        def lend(name: str, nodelay: bool) -> Receiver:
            key = (name, nodelay or name == BROOKBOX)
            if key not in started:
                own = folder / (name if key[1] else f"{name}-as-shipped")
                lent = peers.receiver(name, own, durability, nodelay=key[1], address=address)
                started[key] = _beyond(stack.enter_context(lent), wire)
            return started[key]

        yield lend


def _beyond(receiver: Receiver, wire: Wire | None) -> Receiver:
    if wire is None:
        return receiver
    where = replace(receiver.address, host=wire.here, namespace=wire.namespace)
    return replace(receiver, address=where)
