"""The numbers of jobs: one that was once given is never given again."""

from __future__ import annotations

import sqlalchemy as sa

from appliance.index import schema as t


def last_given(connection: sa.Connection) -> int:
    """Give the highest number that a job of this index ever had; 0 before the first."""
    if connection.dialect.name == "postgresql":
        query = "SELECT pg_sequence_last_value(pg_get_serial_sequence('jobs', 'id')::regclass)"
    else:
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'"
    counted = connection.scalar(sa.text(query)) or 0
    return max(counted, connection.scalar(sa.select(sa.func.max(t.jobs.c.id))) or 0)


def go_on_above(connection: sa.Connection, highest: int) -> int:
    """Let the next job's number be above `highest` and every one that was given; give it."""
    last = max(highest, last_given(connection))
    if connection.dialect.name == "postgresql":
        sequence = sa.text("SELECT setval(pg_get_serial_sequence('jobs', 'id'), :n, :called)")
        connection.execute(sequence, {"n": max(last, 1), "called": last > 0})
    else:
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'jobs'"))
        insert = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', :n)")
        connection.execute(insert, {"n": last})
    return last + 1
