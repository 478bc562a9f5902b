"""Times that lie in the future, because the clock was set back since: pulled to now.

A study would wait until its last instance's time has come again, an hour or a year.
The dispatcher calls this when it finds such an arrival; nothing else is judged by
these times.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import Database


def pull_back(db: Database, now: datetime) -> int:
    """Move the later times of open arrivals and of what brought them to now; how many arrivals."""
    a, s, link = t.arrivals.c, t.associations.c, t.arrival_associations.c
    is_open = sa.select(a.id).where(a.state == "open")
    with db.write() as connection:
        # The arrivals first, as intake does: two that lock in one order never wait in a ring.
        moved = connection.execute(
            sa.update(t.arrivals)
            .where(a.state == "open", a.last_instance_at > now)
            .values(last_instance_at=now)
        ).rowcount
        connection.execute(
            sa.update(t.arrival_associations)
            .where(link.arrival_id.in_(is_open), link.last_instance_at > now)
            .values(last_instance_at=now)
        )
        connection.execute(
            sa.update(t.associations)
            .where(s.closed_at.is_(None), s.last_activity_at > now)
            .values(last_activity_at=now)
        )
    return moved
