"""What one delivery learns of a destination for all others: that it takes instances again."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import Database
from appliance.index.states import DeliveryState


def is_back(db: Database, destination: str, now: datetime) -> int:
    """Let what waits because the destination was away go at once; how many deliveries.

    Not what it answered: an instance that it refused for now waits out its own pause.
    """
    d, i = t.deliveries.c, t.delivery_instances.c
    answered = sa.select(i.delivery_id).where(i.state == "waiting", i.status.is_not(None))
    with db.write() as connection:
        result = connection.execute(
            sa.update(t.deliveries)
            .where(
                d.destination == destination,
                d.state == DeliveryState.DUE,
                d.due_at > now,
                d.id.not_in(answered),
            )
            .values(due_at=now)
        )
        return result.rowcount
