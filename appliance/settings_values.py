"""Whether the value of a setting is right, by itself and beside the others.

`checked` gives the value that a written one means, and `contradictions` what two good
values cannot be together; `appliance.settings_file` puts file and line before their
sentences.
"""

from __future__ import annotations

import ipaddress
import math
import re
import socket
import types
import typing
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from appliance.settings import Settings
from appliance.settings_declared import Declared

_AE_TITLES = {"allow_calling", "senders"}
# What is larger overflows a date, or a count of bytes: a hundred years, a billion GB.
_MOST = {
    "days": 36_500,
    "minutes": 52_560_000,
    "seconds": 3_153_600_000,
    "senders": 3_153_600_000,
    "gb": 1_000_000_000,
    "mb": 1_000_000_000,
}
_GEARMAND = "127.0.0.1"  # where the gearmand that the node starts listens
_EVERYWHERE = {"0.0.0.0", "::"}


def checked(one: Declared, raw: Any) -> Any:
    """Give the value that was written; ValueError says in words after the name what is wrong."""
    value = _converted(one.type, raw)
    if one.choices and value not in one.choices:
        raise ValueError(f"must be one of {', '.join(one.choices)}, not {value!r}.")
    for number in value.values() if isinstance(value, dict) else [value]:
        if isinstance(number, int | float):
            _check_limits(one, number)
    for title in [value] if one.name == "ae_title" else value if one.name in _AE_TITLES else ():
        if not _is_ae_title(title):
            words = "must be 1 to 16 printable ASCII characters, no backslash"
            raise ValueError(f"{words}: {title!r}.")
    for network in value if one.name == "allow_addresses" else ():
        _check_network(network)
    if one.name == "servers":
        _check_servers(value)
    if one.name == "address":
        _check_address(value)
    if one.name == "webhook_url":
        _check_webhook(value)
    return value


def contradictions(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Find settings that cannot be so together: their names, and a sentence."""
    listeners = _listeners(settings)
    for number, (name, address, port) in enumerate(listeners):
        for other, other_address, other_port in listeners[:number]:
            if port == other_port and _overlap(address, other_address):
                yield (name, other), f"{name} and {other} are both {port}: each needs its own."
    rules = settings.receiver
    for name, file in (
        ("receiver.tls_certificate_file", rules.tls_certificate_file),
        ("receiver.tls_key_file", rules.tls_key_file),
    ):
        if rules.tls_port and not file:
            yield ("receiver.tls_port", name), f"receiver.tls_port needs {name}: say both, or none."
    alerts = settings.alerts
    if alerts.mail_host and not (alerts.mail_from and alerts.mail_to):
        needs = ("alerts.mail_host", "alerts.mail_from", "alerts.mail_to")
        yield needs, "alerts.mail_host needs alerts.mail_from and alerts.mail_to: say both."
    high, low = settings.housekeeper.high_percent, settings.housekeeper.low_percent
    if high <= low:
        names = ("housekeeper.high_percent", "housekeeper.low_percent")
        yield names, f"{names[0]} must be above {names[1]}: they are {high:g} and {low:g}."


def _converted(kind: Any, raw: Any) -> Any:
    if kind is bool and isinstance(raw, bool):
        return raw
    if kind is int and isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if kind is float and _is_finite(raw):
        return float(raw)
    if kind is str and isinstance(raw, str | int) and not isinstance(raw, bool):
        return str(raw)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(raw, list | str):
        return tuple(str(part) for part in (raw if isinstance(raw, list) else [raw]))
    if origin is dict and isinstance(raw, dict):
        return {str(name): _converted(float, part) for name, part in raw.items()}
    raise ValueError(f"must be {_words(kind)}, not {_shown(raw)}.")


def _is_finite(raw: Any) -> bool:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return False
    try:
        return math.isfinite(raw)
    except OverflowError:  # a whole number of more than 308 digits
        return False


def _shown(raw: Any) -> str:
    text = repr(raw)
    return text if len(text) <= 60 else f"{text[:50]}…"


def _words(kind: Any) -> str:
    if isinstance(kind, types.GenericAlias):
        return "a list" if typing.get_origin(kind) is tuple else "a mapping of names to numbers"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def _check_limits(one: Declared, number: float) -> None:
    high = _MOST.get(one.name.rpartition("_")[2]) if one.high is None else one.high
    if one.low is not None and number < one.low:
        raise ValueError(f"must be at least {one.low:g}, not {_shown(number)}.")
    if high is not None and number > high:
        raise ValueError(f"must be at most {high:.15g}, not {_shown(number)}.")


def _is_ae_title(text: str) -> bool:
    plain = text.strip(" ")
    return 0 < len(plain) <= 16 and all(" " <= c <= "~" and c != "\\" for c in plain)


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"must be networks, such as 10.1.0.0/16, not {text!r}.") from None


def _check_servers(servers: tuple[str, ...]) -> None:
    """Refuse what pygearman cannot read: it knows host:port, and no IPv6 address."""
    if not servers:
        raise ValueError("must name a server as host:port, such as 127.0.0.1:4730.")
    for server in servers:
        found = re.fullmatch(r"[^\s:/\[\]]+:([0-9]{1,5})", server)
        if not found or not 1 <= int(found[1]) <= 65535:
            wanted = "must be host:port, such as 127.0.0.1:4730, with a port from 1 to 65535"
            raise ValueError(f"{wanted}, not {server!r}.")


def _check_webhook(text: str) -> None:
    wanted = "must be an address as https://host/path, without a password in it"
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_good = is_good and parts.username is None and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if text and not (is_good and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError(f"{wanted}, not {_shown(text)}.")


def _check_address(text: str) -> None:
    """Refuse what nobody can listen on; a name must lead somewhere, as it must at the start."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if not text or not _resolves(text):
            wanted = "must be an IP address of this machine or a name of it, such as localhost"
            raise ValueError(f"{wanted}, not {text!r}; 0.0.0.0 is all addresses.") from None


def _resolves(name: str) -> bool:
    try:
        socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return True


def _listeners(settings: Settings) -> list[tuple[str, str, int]]:
    """List where the node is to listen: the setting of the port, the address, the port."""
    places = []
    if settings.queue.start_gearmand:
        port = int(settings.queue.servers[0].rpartition(":")[2])
        places.append(("queue.servers", _GEARMAND, port))
    places.append(("receiver.port", settings.receiver.address, settings.receiver.port))
    if settings.receiver.tls_port:
        places.append(
            ("receiver.tls_port", settings.receiver.address, settings.receiver.tls_port)
        )
    places.append(("web.port", settings.web.address, settings.web.port))
    return places


def _overlap(one: str, other: str) -> bool:
    """Say whether two listeners at these addresses would want one port of this machine."""
    one, other = (_GEARMAND if text.lower() == "localhost" else text for text in (one, other))
    return one == other or bool(_EVERYWHERE & {one, other})
