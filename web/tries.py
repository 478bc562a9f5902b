"""The wrong keys of the last minute, so that nobody guesses for long."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

_PER_ADDRESS = 5
_PER_NODE = 50
_WINDOW = timedelta(minutes=1)


class Tries:
    """Counted by address, and all together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrong: list[tuple[datetime, str]] = []

    def free_at(self, address: str, moment: datetime) -> datetime | None:
        """Say when this address may try again; None is now."""
        with self._lock:
            self._wrong = [one for one in self._wrong if moment - one[0] < _WINDOW]
            own = [at for at, who in self._wrong if who == address]
            if len(own) >= _PER_ADDRESS:
                return own[-_PER_ADDRESS] + _WINDOW
            if len(self._wrong) >= _PER_NODE:
                return self._wrong[-_PER_NODE][0] + _WINDOW
            return None

    def add(self, address: str, moment: datetime) -> None:
        """Count one wrong try."""
        with self._lock:
            self._wrong.append((moment, address))
