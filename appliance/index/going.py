"""Whether a study is being erased: nothing joins it then, and no job is made of it."""

from __future__ import annotations

import sqlalchemy as sa

from appliance.errors import StudyGoing
from appliance.index import schema as t


def check_not_going(connection: sa.Connection, *study_uids: str, is_question: bool = False) -> None:
    """Raise StudyGoing when one of these is being erased.

    No erasure of them begins before this transaction ends, unless it was only a
    question.  Whoever locks jobs as well does that first: `index.erasure` does.
    """
    s = t.studies.c
    query = sa.select(s.going_since).where(s.study_uid.in_(study_uids)).order_by(s.study_uid)
    found = connection.scalars(query if is_question else query.with_for_update())
    if any(since is not None for since in found.all()):
        raise StudyGoing("the study is being erased just now", remedy="send it again in a minute")


def let_go(connection: sa.Connection) -> int:
    """Let studies stay that are marked as going though no erasure knows of them; how many.

    Such a mark came back with a backup that was made in the middle of one.
    """
    s = t.studies.c
    held = sa.select(t.series.c.study_uid)
    connection.execute(
        sa.delete(t.studies).where(s.going_since.is_not(None), s.study_uid.not_in(held))
    )
    update = sa.update(t.studies).where(s.going_since.is_not(None)).values(going_since=None)
    return connection.execute(update).rowcount


def are_any(connection: sa.Connection) -> bool:
    """Say whether any study is marked as going."""
    going = sa.select(t.studies.c.study_uid).where(t.studies.c.going_since.is_not(None))
    return connection.execute(going.limit(1)).first() is not None
