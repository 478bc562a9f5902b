"""The schema's indexes over some of the rows: at most one open arrival, one open alert.

Apart from the tables, and imported only by who compares the schema with the
migrations: for their conditions SQLAlchemy imports the dialects of both engines,
and every process would hold PostgreSQL's (2 MB) on a node with SQLite.
"""

from __future__ import annotations

import sqlalchemy as sa

from appliance.index.schema import alerts, arrivals, metadata

__all__ = ["metadata"]

sa.Index(
    "uq_arrivals_one_open",
    arrivals.c.called_ae_title,
    arrivals.c.study_uid,
    arrivals.c.series_uid,
    unique=True,
    sqlite_where=arrivals.c.state == "open",
    postgresql_where=arrivals.c.state == "open",
)

sa.Index(
    "uq_alerts_one_open",
    alerts.c.kind,
    alerts.c.subject,
    unique=True,
    sqlite_where=alerts.c.ended_at.is_(None),
    postgresql_where=alerts.c.ended_at.is_(None),
)
