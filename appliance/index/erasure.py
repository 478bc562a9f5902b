"""The first move of an erasure: all that goes is marked as going, and stays so until it is gone.

A study that is marked takes nothing more in, no job is made of it, and nothing of it is
sent; it goes for good with `index.erased_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from appliance.errors import ErasureError
from appliance.index import schema as t
from appliance.index.database import Database, insert_new
from appliance.index.extent import OPEN, Extent, Subject, extent, portions
from appliance.index.lost_attempts import is_dead_process
from appliance.index.reached import Received, Sender, destinations, senders
from appliance.index.states import ACTIVE, DeliveryState

_GOES = "Its study is being erased."


@dataclass(frozen=True, slots=True)
class Begun:
    """What goes, who had sent it, and whom it was sent to."""

    extent: Extent
    senders: tuple[Sender, ...]
    destinations: tuple[Received, ...]


def busy(connection: sa.Connection, found: Extent) -> list[str]:
    """Say in sentences what of it still goes on, so that it cannot be erased now."""
    a, j = t.arrivals.c, t.jobs.c
    said = []
    for some in portions(found.study_uids):
        arrivals = sa.select(a.id, a.called_ae_title).where(
            a.study_uid.in_(some), a.state == "open"
        )
        for id, called in connection.execute(arrivals.order_by(a.id)):
            said.append(f"arrival {id} for {called} is open")
        jobs = sa.select(j.id, j.ae_title, j.state).where(
            j.study_uid.in_(some), j.state.in_(list(ACTIVE))
        )
        for id, stream, state in connection.execute(jobs.order_by(j.id)):
            said.append(f"job {id} of {stream} is {state}")
        said += _open_associations(connection, some)
    return said


def begin(db: Database, subject: Subject, now: datetime, *, whatever: bool = False) -> Begun:
    """Mark all that goes as going, and stop what is still to be sent of it; give what goes.

    `whatever` also takes what seems to go on: only while no node runs.  Raises
    ErasureError while something of it goes on, which is named.
    """
    with db.write() as connection:
        found = extent(connection, subject)
        _lock(connection, found)
        again = extent(connection, subject)
        if again.study_uids != found.study_uids or again.jobs != found.jobs:
            raise ErasureError("something of it came in just now", remedy="try again in a minute")
        goes_on = busy(connection, again)
        if goes_on and not whatever:
            raise ErasureError(
                f"it cannot be erased while something of it goes on: {'; '.join(goes_on)}",
                remedy="wait for it; a job that waits or runs: brookbox jobs cancel ID",
            )
        begun = Begun(
            again, tuple(senders(connection, again)), tuple(destinations(connection, again))
        )
        _mark(connection, again.study_uids, now)
        _stop_sending(connection, again, now)
        return begun


def are_going(connection: sa.Connection, study_uids: Sequence[str]) -> list[str]:
    """Give those of these studies that are marked as going; they stay so in this transaction."""
    s, going = t.studies.c, list[str]()
    for some in portions(sorted(study_uids)):
        query = sa.select(s.study_uid).where(s.study_uid.in_(some), s.going_since.is_not(None))
        going += connection.scalars(query.order_by(s.study_uid).with_for_update())
    return going


def _open_associations(connection: sa.Connection, studies: Sequence[str]) -> list[str]:
    """Name senders that brought something of it and have not let go: they would tell of it."""
    a, r = t.associations.c, t.receptions.c
    query = (
        sa.select(a.calling_ae_title, a.called_ae_title, a.process)
        .join_from(t.receptions, t.associations, a.id == r.association_id)
        .where(r.study_uid.in_(studies), a.closed_at.is_(None))
        .distinct()
    )
    return [
        f"the association in which {row.calling_ae_title} sent it to {row.called_ae_title} is open"
        for row in connection.execute(query)
        if not is_dead_process(row.process)
    ]


def _lock(connection: sa.Connection, found: Extent) -> None:
    """Keep others from moving it; the jobs first, as everybody does who locks both."""
    j, s = t.jobs.c, t.studies.c
    for jobs in portions(sorted({*found.jobs, *found.makers})):
        locked = sa.select(j.id).where(j.id.in_(jobs)).order_by(j.id).with_for_update()
        connection.execute(locked).all()
    for studies in portions(found.study_uids):
        rows = sa.select(s.study_uid).where(s.study_uid.in_(studies)).order_by(s.study_uid)
        connection.execute(rows.with_for_update()).all()


def _mark(connection: sa.Connection, study_uids: Sequence[str], now: datetime) -> None:
    for uid in study_uids:
        # One whose instances went long ago has no row: what comes of it now must wait too.
        row = {"study_uid": uid, "first_received_at": now, "last_received_at": now}
        insert_new(connection, t.studies, row)
    for some in portions(study_uids):
        mine = t.studies.c.study_uid.in_(some)
        connection.execute(sa.update(t.studies).where(mine).values(going_since=now))


def _stop_sending(connection: sa.Connection, found: Extent, now: datetime) -> None:
    """Give up what is due or being sent, and keep the router from making more of it.

    One that is being sent is broken off with its next renewal: it is ours no more.
    """
    d, j = t.deliveries.c, t.jobs.c
    for some in portions(found.jobs):
        connection.execute(
            sa.update(t.deliveries)
            .where(d.job_id.in_(some), d.state.in_(list(OPEN)))
            .values(
                state=DeliveryState.GAVE_UP,
                ended_at=now,
                lease_until=None,
                router="",
                message=_GOES,
            )
        )
        connection.execute(
            sa.update(t.jobs)
            .where(j.id.in_(some), j.routed_at.is_(None))
            .values(routed_at=now, routing_note=_GOES, is_held=False)
        )
