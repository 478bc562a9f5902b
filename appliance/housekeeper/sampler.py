"""Write down the node's own numbers; what is older than a week goes."""

from __future__ import annotations

from datetime import datetime, timedelta

from appliance.disk import space
from appliance.disk.layout import Layout
from appliance.index import samples
from appliance.index.database import Database
from appliance.index.samples import Since

SECONDS = 300.0
_KEPT = timedelta(days=7)


class Sampler:
    """Remembers where the sample before ended; the first look only begins to count."""

    def __init__(self, db: Database, layout: Layout) -> None:
        self._db = db
        self._layout = layout
        self._since: Since | None = None

    def sample(self, now: datetime) -> None:
        """Take one sample; after a clock that was set back, counting begins anew."""
        with self._db.read() as connection:
            if self._since is None or self._since.at > now:
                self._since = samples.start(connection, now)
                return
            numbers, since = samples.count(connection, self._since, now)
        volume = space.measure(self._layout.root)
        numbers |= {
            "disk_used_bytes": float(volume.total_bytes - volume.free_bytes),
            "disk_free_bytes": float(volume.free_bytes),
        }
        samples.add(self._db, numbers, now)
        samples.forget(self._db, now - _KEPT)
        self._since = since
