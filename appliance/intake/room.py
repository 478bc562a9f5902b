"""Whether an instance may still be written, though its association was admitted."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.disk import space
from appliance.disk.layout import Layout
from appliance.disk.space import Floor
from appliance.errors import NoSpace
from appliance.settings import Receiver

_LOOK_SECONDS = 0.25


class Room:
    """Looks at the volume for all associations of a process; the reserve now and then only."""

    def __init__(self, layout: Layout, rules: Callable[[], Receiver]) -> None:
        self._layout = layout
        self._rules = rules
        self._looked_at = 0.0
        self._distrusted = ""  # by this process, whether or not it could note it
        self._degraded = ""
        self._floor = Floor(0, 0)

    def check(self) -> None:
        """Raise NoSpace when nothing may be written any more; OSError."""
        now = time.monotonic()
        if self._degraded or now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._look()
        if self._degraded:
            raise NoSpace(
                f"The data volume is not trusted: {self._degraded}",
                remedy="look at dmesg and at the disk, then restart the node",
            )
        if self._floor.is_undercut(self._layout.root):
            raise NoSpace(
                "The data volume is nearly full.",
                remedy="make room on it; brookbox status shows what holds the space",
            )

    def distrust(self, why: str) -> None:
        """Note that a sync failed: nothing is written from now on."""
        space.mark_degraded(self._layout, why)
        self._distrusted = self._degraded = why

    def _look(self) -> None:
        rules = self._rules()
        self._degraded = self._distrusted or space.degraded(self._layout)
        volume = space.measure(self._layout.root)
        self._floor = space.floor(volume, rules.reserve_gb / 2, rules.reserve_percent / 2)
