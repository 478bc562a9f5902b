"""Associations that only the files tell of: what each brought; how it ended nobody knows."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import insert_new
from appliance.index.reception import Reception
from appliance.index.states import Ending


def add(
    connection: sa.Connection,
    reception: Reception,
    now: datetime,
    ending: Ending = Ending.UNKNOWN,
) -> None:
    """Let a study have been brought, unless that is noted; what was refused nobody knows."""
    values = {
        "id": reception.association_id,
        "called_ae_title": reception.called_ae_title,
        "calling_ae_title": reception.calling_ae_title,
        "address": reception.address,
        "process": "",
        "opened_at": reception.received_at,
        "last_activity_at": reception.received_at,
        "closed_at": now,
        "ending": ending,
        "instances": 0,
        "failures": 0,
    }
    insert_new(connection, t.associations, values)


def correct(connection: sa.Connection) -> None:
    """Let each association that only the files tell of have brought all that is kept of it."""
    a, r = t.associations.c, t.receptions.c
    mine = r.association_id == a.id
    values = {
        "instances": sa.func.count(r.sop_instance_uid.distinct()),
        "opened_at": sa.func.min(r.received_at),
        "last_activity_at": sa.func.max(r.received_at),
    }
    told = {name: sa.select(value).where(mine).scalar_subquery() for name, value in values.items()}
    kept = a.id.in_(sa.select(r.association_id))
    unknown = a.ending == Ending.UNKNOWN
    connection.execute(sa.update(t.associations).where(unknown, kept).values(**told))
