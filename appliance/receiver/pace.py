"""The pace at which one address is refused, so that nobody finds out AE titles by trying them.

An address that was refused for good more often than `receiver.refusals_a_minute` has the
next refusals answered after a pause; while some of its requests wait so, its further ones
are refused for now without being judged.  Other addresses do not notice.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from appliance.receiver.admission import Reject

MINUTE_SECONDS = 60.0
PAUSE_SECONDS = 2.0
MOST_WAITING = 4
_MOST_ADDRESSES = 10_000


class Strikes:
    """When each address was refused for good in the last minute; the clock is an argument."""

    def __init__(self) -> None:
        self._at: dict[str, deque[float]] = {}

    def add(self, address: str, now: float) -> int:
        """Note a refusal; how many there were in the last minute, this one among them."""
        if address not in self._at and len(self._at) >= _MOST_ADDRESSES:
            self._forget(now)
        times = self._at.setdefault(address, deque(maxlen=1000))
        times.append(now)
        while times[0] <= now - MINUTE_SECONDS:
            times.popleft()
        return len(times)

    def _forget(self, now: float) -> None:
        """Let go of the addresses of long ago; of all, should there be none of those."""
        late = {a: times for a, times in self._at.items() if times[-1] > now - MINUTE_SECONDS}
        self._at = late if len(late) < _MOST_ADDRESSES else {}


class Pace:
    """What one receiving process remembers; asked by the threads of all its associations."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._strikes = Strikes()
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._sleep = sleep

    def overrun(self, address: str) -> Reject | None:
        """Refuse for now, unjudged, while as many of this address wait as may."""
        if self._waiting[address] < MOST_WAITING:
            return None
        return Reject(2, 3, 1, "Too many requests of its address were refused lately.")

    def keep(self, address: str, most: int) -> int:
        """Note a refusal for good, and wait if it was one too many; `most` 0 never waits.

        Gives how many there were of this address in the last minute.
        """
        with self._lock:
            count = self._strikes.add(address, time.monotonic())
            if not most or count <= most:
                return count
            self._waiting[address] += 1
        try:
            self._sleep(PAUSE_SECONDS)
        finally:
            with self._lock:
                self._waiting[address] -= 1
                if not self._waiting[address]:
                    del self._waiting[address]
        return count
