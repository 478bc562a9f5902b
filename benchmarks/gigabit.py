"""A wire of 1 Gbit/s and 2 ms there and back, between this machine and a network namespace.

netem would be the means, but many kernels of virtual machines lack it.  Here a process carries
the packets between two TUN devices: each waits until those before it have gone at that rate,
and then half a round trip.  TCP hands them over as it does to a network card that segments
(up to 64 kB at once, virtio_net_hdr), so that one process keeps up; they are counted as the
frames of 1,500 bytes that they would be.  What the queue of a switch could not hold is lost.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import need
from benchmarks.plan import NotMeasured

BYTES_PER_SECOND = 1e9 / 8
ROUND_TRIP_SECONDS = 0.002
_QUEUE_SECONDS = 0.012  # 1,000 frames, as netem's limit is
_MTU = 1500
# Around each frame: Ethernet's header, its sum, preamble and gap; before its part of the data
# set the headers of IP and TCP with a timestamp.
_FRAME_BYTES, _HEADERS_BYTES = 38, 52
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_VNET_HDR_BYTES, _LONGEST = 10, 65_536 + 10


@dataclass(frozen=True, slots=True)
class Wire:
    """`here` is this machine's address on it; senders stand in `namespace`."""

    here: str
    namespace: Path
    carrier: int


@contextmanager
def wire() -> Iterator[Wire]:
    """Lend a wire; nothing of it is left behind.  NotMeasured where the machine has none."""
    need("ip", "iproute2")
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        raise NotMeasured("a wire between namespaces needs root and /dev/net/tun")
    tag = os.getpid() % 100_000
    name, net = f"bbw{tag}", f"10.{100 + tag % 100}.{tag % 250}"
    near, far = f"bbn{tag}", f"bbf{tag}"
    ends = (_tun(near), _tun(far))
    _ip("netns", "add", name)
    carrier = 0
    try:
        _ip("link", "set", far, "netns", name)
        for where, device, number in (((), near, 1), (("-n", name), far, 2)):
            _ip(*where, "addr", "add", f"{net}.{number}/30", "dev", device)
            _ip(*where, "link", "set", device, "mtu", str(_MTU), "up")
        carrier = _start_carrier(ends)
        yield Wire(f"{net}.1", Path("/run/netns") / name, carrier)
    finally:
        if carrier:
            os.kill(carrier, signal.SIGKILL)
            os.waitpid(carrier, 0)
        for end in ends:
            os.close(end)  # the device goes with it
        _ip("netns", "delete", name)


def _tun(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), flags))
    fcntl.ioctl(end, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return end


def _ip(*words: str) -> None:
    done = subprocess.run(
        [need("ip", "iproute2"), *words], capture_output=True, text=True, timeout=30
    )
    if done.returncode != 0:
        raise NotMeasured(f"no wire: ip {' '.join(words)}: {done.stderr.strip()}")


def _start_carrier(ends: tuple[int, int]) -> int:
    if pid := os.fork():
        return pid
    try:
        # It must not wait for those that it carries for.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -15)
        _carry(ends)
    finally:
        os._exit(1)


def _carry(ends: tuple[int, int]) -> None:
    """Carry packets, each at its time, as long as there is somebody to carry them for."""
    parent = os.getppid()
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    on_the_way: dict[int, deque[tuple[float, bytes]]] = {end: deque() for end in ends}
    free_at = dict.fromkeys(ends, 0.0)
    while os.getppid() == parent:
        now = time.perf_counter()
        due = now + 1.0
        for end, packets in on_the_way.items():
            while packets and packets[0][0] <= now:
                with suppress(OSError):
                    os.write(end, packets.popleft()[1])
            if packets:
                due = min(due, packets[0][0])
        for end in select.select(ends, [], [], max(due - time.perf_counter(), 0))[0]:
            with suppress(BlockingIOError):
                while True:
                    packet = os.read(end, _LONGEST)
                    begins = max(time.perf_counter(), free_at[end])
                    if begins - time.perf_counter() > _QUEUE_SECONDS:
                        continue
                    free_at[end] = begins + _wire_bytes(packet) / BYTES_PER_SECOND
                    arrives = free_at[end] + ROUND_TRIP_SECONDS / 2
                    on_the_way[other[end]].append((arrives, packet))


def _wire_bytes(packet: bytes) -> int:
    """Say how long the frames would be together that a packet is segmented into."""
    length = len(packet) - _VNET_HDR_BYTES
    segment: int = struct.unpack_from("<H", packet, 4)[0]  # gso_size; 0 is a packet alone
    frames = max(-(-(length - _HEADERS_BYTES) // segment), 1) if segment else 1
    return length + (frames - 1) * _HEADERS_BYTES + frames * _FRAME_BYTES
