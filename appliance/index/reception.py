"""That an instance came: the reception, and the arrival that it opens or goes on with.

Called by intake in its transaction, for one instance (`arrivals.receive`) or for many
(`index.batch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import insert_new


@dataclass(frozen=True, slots=True)
class Reception:
    """That an instance came: for whom, from whom, when.

    `is_conflict`: with other content than what is kept, so that it is in quarantine.
    """

    sop_instance_uid: str
    study_uid: str
    series_uid: str
    called_ae_title: str
    calling_ae_title: str
    address: str
    association_id: str
    received_at: datetime
    is_conflict: bool = False


def touch(connection: sa.Connection, reception: Reception, series_uid: str) -> int:
    """Open the arrival of a reception, or move its last time; give its id.

    `series_uid` is "" for streams of level study.
    """
    a = t.arrivals.c
    key = {
        "called_ae_title": reception.called_ae_title,
        "study_uid": reception.study_uid,
        "series_uid": series_uid,
        "state": "open",
    }
    where = [getattr(a, name) == value for name, value in key.items()]
    now = reception.received_at
    touch = (
        sa.update(t.arrivals)
        .where(*where)
        .values(
            last_instance_at=sa.case(
                (a.last_instance_at < now, sa.literal(now, t.Utc)), else_=a.last_instance_at
            )
        )
    )
    if connection.execute(touch).rowcount == 0:
        made = insert_new(
            connection,
            t.arrivals,
            {
                **key,
                "opened_at": now,
                "last_instance_at": now,
                "reason": "",
                "incomplete": False,
                "digest": "",
                "note": "",
            },
        )
        if not made:  # another worker opened it between the two statements
            connection.execute(touch)
    arrival_id: int = connection.execute(sa.select(a.id).where(*where)).scalar_one()
    link = {"arrival_id": arrival_id, "association_id": reception.association_id}
    if not insert_new(connection, t.arrival_associations, {**link, "last_instance_at": now}):
        c = t.arrival_associations.c
        connection.execute(
            sa.update(t.arrival_associations)
            .where(c.arrival_id == arrival_id, c.association_id == reception.association_id)
            .values(last_instance_at=now)
        )
    return arrival_id
