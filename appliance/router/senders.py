"""The deliveries that are being sent just now: one thread each, a limit per destination.

So a slow or dead destination holds its own threads and nobody else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from appliance import ids
from appliance.index import deliveries
from appliance.index.database import Database
from appliance.router.routing_watch import InForce
from appliance.router.sending import LEASE, Sending
from appliance.settings import Settings


class Senders:
    """All threads of one router process; only its main thread calls these."""

    def __init__(self, db: Database, when_done: Callable[[], None]) -> None:
        self._db = db
        self._when_done = when_done
        self._router = str(ids.this_process())
        self._running: list[Sending] = []

    def fill(self, settings: Settings, rules: InForce, now: datetime) -> None:
        """Start every delivery that is due and whose destination has a place free."""
        while True:
            delivery = deliveries.claim_due(
                self._db, busy=self.busy(rules), router=self._router, lease=LEASE, now=now
            )
            if delivery is None:
                return
            destination = rules.routing.destinations.get(delivery.destination)
            sending = Sending(self._db, settings, delivery, destination, self._when_done)
            self._running.append(sending)
            sending.start()

    def busy(self, rules: InForce) -> set[str]:
        """Name the destinations that have as many associations as they may have."""
        self._running = [one for one in self._running if one.is_running]
        counts: dict[str, int] = {}
        for one in self._running:
            name = one.delivery.destination
            counts[name] = counts.get(name, 0) + 1
        known = rules.routing.destinations
        return {
            name
            for name, count in counts.items()
            if count >= (known[name].associations if name in known else 1)
        }

    def renew(self, now: datetime) -> None:
        """Keep the leases; a delivery that is another's now is broken off."""
        for one in self._running:
            if one.is_running and not deliveries.renew(self._db, one.delivery, LEASE, now):
                one.end()

    def take_back(self, now: datetime) -> int:
        """Make due again what died in the middle: leases run out, routers that are gone."""
        names = deliveries.sending_routers(self._db) - {self._router}
        dead = {name for name in names if not _is_alive(name)}
        return deliveries.take_back(self._db, now, dead)

    def stop(self, patience_seconds: float) -> None:
        """Let each finish the instance that it sends, then break the rest off."""
        for one in self._running:
            one.stop()
        deadline = time.monotonic() + patience_seconds
        for one in self._running:
            one.join(deadline - time.monotonic())
        for one in self._running:
            one.end()
        for one in self._running:
            one.join(2.0)


def _is_alive(router: str) -> bool:
    try:
        return ids.parse_process(router).is_alive()
    except ValueError:
        return False
