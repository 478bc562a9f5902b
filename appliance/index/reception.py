"""That an instance came: the reception, and the arrival that it opens or goes on with.

Called by intake in its transaction, for one instance (`arrivals.receive`) or for many
(`index.batch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.bulk import Insert, time_cell
from appliance.index.database import insert_new_row


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
    return touch_all(
        connection,
        reception.called_ae_title,
        reception.study_uid,
        series_uid,
        reception.received_at,
        {reception.association_id: reception.received_at},
    )


def touch_all(
    connection: sa.Connection,
    called_ae_title: str,
    study_uid: str,
    series_uid: str,
    first_at: datetime,
    last_times: Mapping[str, datetime],
) -> int:
    """Do as `touch` does for many instances of one arrival.

    `first_at` is when the first of them came, `last_times` when the last one did, by the
    association that brought it.
    """
    key = {"called_ae_title": called_ae_title, "study_uid": study_uid, "series_uid": series_uid}
    move = {"called": called_ae_title, "study": study_uid, "series": series_uid,
            "now": max(last_times.values())}  # fmt: skip
    found = connection.execute(_MOVE, move).first()
    if found is None:
        fixed = {"state": "open", "reason": "", "incomplete": False, "digest": "", "note": ""}
        times = {"opened_at": first_at, "last_instance_at": move["now"]}
        found = insert_new_row(connection, t.arrivals, {**key, **fixed, **times})
    if found is None:  # another worker opened it between the two statements
        found = connection.execute(_MOVE, move).one()
    arrival_id: int = found[0]
    _BRINGERS.run(
        connection, [(arrival_id, one, time_cell(at)) for one, at in last_times.items()]
    )
    return arrival_id


# Made once: to build a statement takes longer than to run it.
_A = t.arrivals.c
_NOW = sa.bindparam("now", type_=t.Utc)
_MOVE = (
    sa.update(t.arrivals)
    .where(
        _A.called_ae_title == sa.bindparam("called"),
        _A.study_uid == sa.bindparam("study"),
        _A.series_uid == sa.bindparam("series"),
        _A.state == sa.literal_column("'open'"),  # as the partial index says it
    )
    .values(last_instance_at=sa.case((_A.last_instance_at < _NOW, _NOW), else_=_A.last_instance_at))
    .returning(_A.id)
)
_BRINGERS = Insert(
    t.arrival_associations,
    ("arrival_id", "association_id", "last_instance_at"),
    conflict=" ON CONFLICT (arrival_id, association_id)"
    " DO UPDATE SET last_instance_at = excluded.last_instance_at",
)
