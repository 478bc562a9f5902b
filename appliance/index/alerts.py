"""What is wrong with the node and has been noticed: one open row for each kind and subject.

The moves: raised → told → ended → told again.  One that ended and begins again soon is
opened again as it was, so that a cause that comes and goes is told of once.  Moved by
the housekeeper alone; read by web, cli and metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import Database, insert_new

QUIET = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is, or was, wrong; `told_at` is when it was last sent to somebody."""

    id: int
    kind: str
    subject: str
    sentence: str
    remedy: str
    began_at: datetime
    ended_at: datetime | None
    told_at: datetime | None


def begin(db: Database, kind: str, subject: str, sentence: str, remedy: str, now: datetime) -> str:
    """Have an alert open: "raised" when it is new, "reopened" when it ended a moment ago,
    "still" when it was open; its words are those of now.
    """
    a = t.alerts.c
    words = {"sentence": sentence, "remedy": remedy}
    mine = (a.kind == kind, a.subject == subject)
    with db.write() as connection:
        if connection.execute(
            sa.update(t.alerts).where(*mine, a.ended_at.is_(None)).values(**words)
        ).rowcount:
            return "still"
        lately = sa.select(sa.func.max(a.id)).where(*mine, a.ended_at > now - QUIET)
        if connection.execute(
            sa.update(t.alerts)
            .where(a.id == lately.scalar_subquery(), a.ended_at.is_not(None))
            .values(**words, ended_at=None)
        ).rowcount:
            return "reopened"
        new = {"kind": kind, "subject": subject, "began_at": now, **words}
        return "raised" if insert_new(connection, t.alerts, new) else "still"


def end(db: Database, alert_id: int, now: datetime) -> bool:
    """Close an alert whose cause is gone; False when it was closed already."""
    a = t.alerts.c
    with db.write() as connection:
        return bool(
            connection.execute(
                sa.update(t.alerts)
                .where(a.id == alert_id, a.ended_at.is_(None))
                .values(ended_at=now)
            ).rowcount
        )


def note_told(db: Database, alert: Alert, at: datetime) -> bool:
    """Note that an alert was told as it stood at `at`; False when it was told of meanwhile."""
    a = t.alerts.c
    before = a.told_at.is_(None) if alert.told_at is None else a.told_at == alert.told_at
    with db.write() as connection:
        move = sa.update(t.alerts).where(a.id == alert.id, before).values(told_at=at)
        return bool(connection.execute(move).rowcount)


def untold(connection: sa.Connection, now: datetime) -> list[Alert]:
    """List what somebody is to be told, oldest first: what began, and what is over for good.

    The end is told only once it can no more be opened again quietly, and only of what was
    told when it began.
    """
    a = t.alerts.c
    began = sa.and_(a.ended_at.is_(None), a.told_at.is_(None))
    is_over = sa.and_(a.ended_at <= now - QUIET, a.told_at < a.ended_at)
    return _listed(connection, sa.select(t.alerts).where(sa.or_(began, is_over)).order_by(a.id))


def open_alerts(connection: sa.Connection) -> list[Alert]:
    """List what is wrong now, oldest first."""
    a = t.alerts.c
    return _listed(connection, sa.select(t.alerts).where(a.ended_at.is_(None)).order_by(a.id))


def ended(connection: sa.Connection, limit: int) -> list[Alert]:
    """List what was wrong and is over, newest first."""
    a = t.alerts.c
    query = sa.select(t.alerts).where(a.ended_at.is_not(None)).order_by(a.ended_at.desc())
    return _listed(connection, query.limit(limit))


def forget(db: Database, before: datetime) -> int:
    """Remove what ended before then; how many there were."""
    with db.write() as connection:
        gone = sa.delete(t.alerts).where(t.alerts.c.ended_at < before)
        return connection.execute(gone).rowcount


def _listed(connection: sa.Connection, query: sa.Select[tuple[object, ...]]) -> list[Alert]:
    return [Alert(**row) for row in connection.execute(query).mappings()]
