"""Look at what the settings say of those who may send."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.health.finding import Finding, ok, warn
from appliance.settings import Settings

_ABOUT = "senders"


def check_senders(settings: Settings) -> Iterator[Finding]:
    """Say which rules by address are off behind NAT, where all senders share one."""
    rules = settings.receiver
    if not rules.behind_nat:
        return
    told = (
        "Rules and limits by address are off (receiver.behind_nat): behind NAT all senders come "
        "from one address, so a rule could only let in all of them or none"
    )
    if rules.allow_addresses:
        networks = ", ".join(rules.allow_addresses)
        yield warn(
            _ABOUT,
            f"{told}. receiver.allow_addresses ({networks}) is not applied.",
            "let a firewall of the host decide, or give the node an address of its own (bridged "
            "network) and set receiver.behind_nat: false",
        )
    else:
        yield ok(_ABOUT, f"{told}.")
