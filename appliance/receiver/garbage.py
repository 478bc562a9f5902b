"""Connections that were no associations: one line in the log for an address and minute."""

from __future__ import annotations

import threading
import time

from appliance import logs

_QUIET_SECONDS = 60.0
_MOST_ADDRESSES = 1000


class Garbage:
    """What was said in the last minute; asked by many threads."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, address: str, words: str) -> None:
        """Say that a connection was closed, and why, unless its address was told of just now."""
        now = time.monotonic()
        with self._lock:
            if now - self._said_at.get(address, -_QUIET_SECONDS) < _QUIET_SECONDS:
                return
            if len(self._said_at) >= _MOST_ADDRESSES:
                late = {a: at for a, at in self._said_at.items() if now - at < _QUIET_SECONDS}
                # Thousands of addresses in a minute: the log must not be their target either.
                if len(late) >= _MOST_ADDRESSES:
                    return
                self._said_at = late
            self._said_at[address] = now
        logs.get().warning("connection closed", address=address, why=words)
