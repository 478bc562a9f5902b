"""How to send to this node: its names and addresses on the network, its port, its AE titles."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence, Set
from dataclasses import dataclass

import psutil

from appliance.index.lanes import Lane
from appliance.settings import Settings
from appliance.streams.catalog import Stream, Streams
from web.streams import state_of

_EVERYWHERE = {"0.0.0.0", "::", ""}
_NOT_FROM_OUTSIDE = ("docker", "br-", "veth", "virbr", "cni", "podman")


@dataclass(frozen=True, slots=True)
class Target:
    """One AE title that may be called, and what happens to what is sent to it.

    `state` is serving, waiting (accepted, but nothing can run it just now), off or broken.
    """

    ae_title: str
    does: str
    state: str
    note: str = ""


def addresses(settings: Settings) -> list[str]:
    """List the addresses that a sender may enter, the likeliest first."""
    listens = settings.receiver.address
    if listens not in _EVERYWHERE:
        return [listens]
    families = (socket.AF_INET, socket.AF_INET6)
    found = [
        ipaddress.ip_address(one.address.split("%")[0])
        for name, its in psutil.net_if_addrs().items()
        if not name.startswith(_NOT_FROM_OUTSIDE)
        for one in its
        if one.family in families
    ]
    outside = [one for one in found if not one.is_loopback and not one.is_link_local]
    return [str(one) for one in sorted(set(outside), key=lambda one: (one.version, one))] or [
        "127.0.0.1"
    ]


def targets(
    settings: Settings, streams: Streams, seats: Sequence[Lane], switched_off: Set[str]
) -> list[Target]:
    """List what may be called: every stream that names an AE title, then the node itself."""
    found = []
    for stream in streams.all:
        if stream.ae_title and not streams.in_place_of(stream):  # a copy serves nobody
            own = [seat for seat in seats if seat.ae_title == stream.ae_title]
            state, why, _ = state_of(stream, own, stream.ae_title in switched_off)
            if state == "broken":
                why = " ".join(str(problem) for problem in stream.problems if problem.stops)
            found.append(Target(stream.ae_title, _does(stream), state, why))
    own_title = settings.node.ae_title
    does = "Keeps what is sent, without processing; answers echo."
    return [*found, Target(own_title, does, "serving")]


def _does(stream: Stream) -> str:
    info = stream.info
    if info is None:
        return stream.folder.name
    return ": ".join(part for part in (info.name, info.description) if part) or stream.folder.name
