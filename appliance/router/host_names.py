"""Where a host name leads, for those who must not wait: a dead name server delays nobody.

A look-up that takes longer than a moment goes on behind, and what was known before is
given meanwhile.  Who connects asks `own_node.addresses_of` instead, and waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.router.own_node import Address, addresses_of

_PATIENCE_SECONDS = 1.0
_FRESH_SECONDS = 60.0


@dataclass(slots=True)
class _Known:
    """What is known of one name; `asked_at` is the monotonic time of the newest look-up."""

    addresses: tuple[Address, ...] = ()
    asked_at: float = float("-inf")
    is_asking: bool = False
    answered: threading.Event = field(default_factory=threading.Event)


class HostNames:
    """The names that were asked for; any thread may ask."""

    def __init__(self, look_up: Callable[[str], tuple[Address, ...]] = addresses_of) -> None:
        self._look_up = look_up
        self._names: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def addresses(self, host: str) -> tuple[Address, ...]:
        """Give a host's addresses, those of before when the name server is slow or away.

        A name that was never answered gives nothing.
        """
        with self._lock:
            known = self._names.setdefault(host, _Known())
            is_stale = time.monotonic() - known.asked_at >= _FRESH_SECONDS
            if is_stale and not known.is_asking:
                known.asked_at, known.is_asking = time.monotonic(), True
                known.answered.clear()
                threading.Thread(target=self._ask, args=(host, known), daemon=True).start()
            elif not is_stale:
                return known.addresses
        known.answered.wait(_PATIENCE_SECONDS)
        return known.addresses

    def _ask(self, host: str, known: _Known) -> None:
        found = self._look_up(host)
        with self._lock:
            known.addresses = found or known.addresses
            known.is_asking = False
        known.answered.set()


_names = HostNames()


def addresses_soon(host: str) -> tuple[Address, ...]:
    """Give a host's addresses within a second: nothing when none was ever heard of."""
    return _names.addresses(host)
