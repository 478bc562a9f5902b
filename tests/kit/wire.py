"""A network of two ends whose wire the test is: it loses, delays, cuts and swallows packets.

Our end is a TUN device of this machine, the other one stands in a network namespace of its
own.  Needs neither netem nor a firewall, which many kernels of virtual machines lack.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.kit import require

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_numbers = itertools.count(1)


class Wire:
    """The packets between both ends; what it does to them may be changed at any time."""

    def __init__(self, ours: int, theirs: int, name: str, net: str) -> None:
        self._ends = (ours, theirs)
        self.namespace = name
        self.here, self.there = f"{net}.1", f"{net}.2"
        self.loss = 0.0
        self.delay_seconds = 0.0
        self.is_cut = False
        self.longest: int | None = None  # bytes; longer ones vanish without a word
        self.lost = self.passed = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def command(self, *words: str) -> list[str]:
        """Give the command line that runs a program at the other end."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _carry(self) -> None:
        chance = random.Random(1)
        waiting: list[tuple[float, int, int, bytes]] = []
        order = itertools.count()
        while not self._stopping.is_set():
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, end, packet = heapq.heappop(waiting)
                with suppress(OSError):
                    os.write(end, packet)
            patience = max(0.0, min(0.1, waiting[0][0] - now)) if waiting else 0.1
            for end in select.select(self._ends, [], [], patience)[0]:
                packet = os.read(end, 65536)
                is_long = self.longest is not None and len(packet) > self.longest
                if self.is_cut or is_long or chance.random() < self.loss:
                    self.lost += 1
                    continue
                self.passed += 1
                other = self._ends[1] if end == self._ends[0] else self._ends[0]
                at = time.monotonic() + self.delay_seconds
                heapq.heappush(waiting, (at, next(order), other, packet))


@contextmanager
def wire(mtu: int = 1500) -> Iterator[Wire]:
    """Lend a wire; nothing of it is left behind."""
    require.root()
    require.program("ip", "iproute2")
    if not os.path.exists("/dev/net/tun"):
        require.missing("/dev/net/tun", "load the kernel module tun")
    tag = f"{os.getpid() % 100_000}{next(_numbers)}"
    name, net = f"bbn{tag}", f"10.{77 + os.getpid() % 100}.{next(_numbers) % 250}"
    ours, theirs = _tun(f"bbo{tag}"), _tun(f"bbt{tag}")
    _ip("netns", "add", name)
    try:
        _ip("link", "set", f"bbt{tag}", "netns", name)
        _ip("addr", "add", f"{net}.1/30", "dev", f"bbo{tag}")
        _ip("link", "set", f"bbo{tag}", "mtu", str(mtu), "up")
        _ip("-n", name, "addr", "add", f"{net}.2/30", "dev", f"bbt{tag}")
        _ip("-n", name, "link", "set", f"bbt{tag}", "mtu", str(mtu), "up")
        _ip("-n", name, "link", "set", "lo", "up")
        made = Wire(ours, theirs, name, net)
        try:
            yield made
        finally:
            made.stop()
    finally:
        for end in (ours, theirs):
            os.close(end)  # the device goes with it
        _ip("netns", "delete", name)


def _tun(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return end


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        require.missing("a network namespace", f"ip {' '.join(words)}: {done.stderr.strip()}")
