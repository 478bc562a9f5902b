"""What routing.yaml says, as values: destinations and ordered rules.

`routing_file` reads them, `match` applies them; nothing here touches a file or
the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

BACK_TO_SENDER = "back-to-sender"
OUTCOMES = ("success", "partial", "failed")
WHATS = ("output", "input")
SENDERS = ("first", "last", "all")
LARGEST_PDU_BYTES = 131072


@dataclass(frozen=True, slots=True)
class Destination:
    """A node that results may be sent to.

    `sends_from` lists further addresses or networks from which it sends, so that
    "back to the sender" knows it; its own host always counts.
    """

    name: str
    ae_title: str
    host: str
    port: int
    own_ae_title: str
    associations: int = 1
    max_pdu_bytes: int = LARGEST_PDU_BYTES
    association_timeout_seconds: float = 30.0
    answer_timeout_seconds: float = 120.0
    sends_from: tuple[str, ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title} at {host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TagTest:
    """One tag whose value must match; `name` is how the file wrote the tag."""

    tag: int
    name: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """When something is sent, and what, and where to.

    `tags` are alternatives; all tests of one alternative must hold for an instance,
    and only such instances are sent.  `to` holds names of destinations, or
    BACK_TO_SENDER.
    """

    name: str
    to: tuple[str, ...]
    called: re.Pattern[str] | None = None
    calling: re.Pattern[str] | None = None
    outcome: tuple[str, ...] = ("success", "partial")
    tags: tuple[tuple[TagTest, ...], ...] = ()
    what: str = "output"
    senders: str = "last"
    stop: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Routing:
    """One good version of routing.yaml; `digest` is the SHA-256 of its text."""

    destinations: Mapping[str, Destination] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    digest: str = ""
