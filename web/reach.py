"""How to send to this node: its names and addresses on the network, its port, its AE titles."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Set
from dataclasses import dataclass

import psutil

from appliance.settings import Settings
from appliance.streams.catalog import Streams

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
    settings: Settings, streams: Streams, switched_off: Set[str], waiting: dict[str, str]
) -> list[Target]:
    """List what may be called: every stream, then the node itself.

    `waiting` maps AE titles to why nothing can run them just now.
    """
    found = []
    for stream in streams.all:
        if not stream.ae_title:
            continue
        info = stream.info
        does = (info.name or stream.folder.name) if info else stream.folder.name
        if info and info.description:
            does = f"{does}: {info.description}" if info.name else info.description
        state, note = "serving", ""
        if not stream.is_good:
            state, note = "broken", _first(str(p) for p in stream.problems if p.stops)
        elif not stream.is_enabled:
            state, note = "off", "It is switched off in its info.json."
        elif stream.ae_title in switched_off:
            state, note = "off", "A person switched it off here."
        elif stream.ae_title in waiting:
            state, note = "waiting", waiting[stream.ae_title]
        found.append(Target(stream.ae_title, does, state, note))
    own = settings.node.ae_title
    return [*found, Target(own, "Keeps what is sent, without processing; answers echo.", "serving")]


def _first(texts: Iterable[str]) -> str:
    return next(iter(texts), "")
