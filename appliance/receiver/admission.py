"""Whether an association is accepted, as a pure function; and why not (PS3.8 9.3.4)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.dicom.names import is_ae_title
from appliance.settings import Settings
from appliance.streams.catalog import Streams

_PADDING = " \0"  # spaces; some old equipment pads with NUL


@dataclass(frozen=True, slots=True)
class Request:
    """An association request; `is_echo_only` proposes nothing but Verification."""

    called_ae_title: str
    calling_ae_title: str
    address: str
    is_echo_only: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """How the node is just now; `hindrance` is a sentence when it can keep nothing at all.

    `waiting` maps an AE title to its queued jobs and open arrivals.
    """

    open_associations: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    switched_off: frozenset[str] = frozenset()
    hindrance: str = ""


@dataclass(frozen=True, slots=True)
class Accept:
    """For a stream, whose `level` is "study" or "series", or for the node itself (None)."""

    called_ae_title: str
    calling_ae_title: str
    level: str | None


@dataclass(frozen=True, slots=True)
class Reject:
    """Result, source and reason of PS3.8 9.3.4, and a sentence for a person."""

    result: int
    source: int
    reason: int
    sentence: str


def decide(request: Request, streams: Streams, settings: Settings, load: Load) -> Accept | Reject:
    """Accept an association, or say why not.

    AE titles come as 16 space-padded characters; outer spaces do not count (PS3.8
    9.3.2), case does.  An association for Verification only is not refused for want
    of space, since it brings nothing.

    Reject(1, 1, 3) is a calling AE title or address that may not connect, (1, 1, 7) a
    called AE title that names nothing which serves; (2, 3, 1) and (2, 3, 2) pass by:
    no room, too many studies waiting, or too many associations.  Never raises.
    """
    called = request.called_ae_title.strip(_PADDING)
    calling = request.calling_ae_title.strip(_PADDING)
    if why := _may_not_connect(calling, request.address, settings):
        return Reject(1, 1, 3, why)
    is_own = called == settings.node.ae_title.strip(" ")
    if not is_own and (why := _does_not_serve(called, streams, settings, load)):
        return Reject(1, 1, 7, why)
    stream = None if is_own else streams.find(called)
    level = stream.good_info.level if stream else None
    if request.is_echo_only:
        return Accept(called, calling, level)
    if load.hindrance:
        return Reject(2, 3, 1, load.hindrance)
    if why := _is_overrun(called, streams, settings, load) if stream else "":
        return Reject(2, 3, 1, why)
    if load.open_associations >= settings.receiver.max_associations:
        most = settings.receiver.max_associations
        return Reject(2, 3, 2, f"{most} associations are open: receiver.max_associations.")
    return Accept(called, calling, level)


def _may_not_connect(calling: str, address: str, settings: Settings) -> str:
    allowed = settings.receiver.allow_calling
    if not is_ae_title(calling):
        return "The calling AE title is empty, or has a backslash or a control character."
    if allowed and calling not in {title.strip(" ") for title in allowed}:
        return f"Calling AE title {calling} is not in receiver.allow_calling."
    networks = () if settings.receiver.behind_nat else settings.receiver.allow_addresses
    if networks and not any(_is_in(address, network) for network in networks):
        return f"Address {address} is not in receiver.allow_addresses."
    return ""


def _is_in(address: str, network: str) -> bool:
    """Say whether an address is in a network; what cannot be read matches nothing."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _does_not_serve(called: str, streams: Streams, settings: Settings, load: Load) -> str:
    stream = streams.find(called)
    if stream is None:
        own = settings.node.ae_title.strip(" ")
        meant = own if own.lower() == called.lower() else streams.meant(called)
        asked = f" Did you mean {meant}? Case counts." if meant else ""
        return f"No stream has the AE title {_shown(called)}.{asked}"
    if not stream.is_good:
        first = next((str(p) for p in stream.problems if p.stops), "it cannot be used")
        return f"The stream of {called} is broken: {first}"
    if not stream.is_enabled:
        return f'The stream of {called} says "enabled": 0 in its info.json.'
    if called in load.switched_off:
        return f"The stream of {called} was switched off on its page."
    return ""


def _is_overrun(called: str, streams: Streams, settings: Settings, load: Load) -> str:
    stream = streams.find(called)
    own = stream.info.max_waiting if stream and stream.info else None
    most = settings.jobs.max_waiting if own is None else own
    waiting = load.waiting.get(called, 0)
    if waiting < most:
        return ""
    studies = "1 study waits" if waiting == 1 else f"{waiting} studies wait"
    return f"{studies} for {called} already; max_waiting is {most}."


def _shown(text: str) -> str:
    """Write an AE title of any bytes so that a page or a terminal may show it."""
    return "".join(c if c.isprintable() else "?" for c in text) or "(empty)"
