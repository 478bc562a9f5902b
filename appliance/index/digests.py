"""Digests that are not computed yet: the SHA-256 of a data set follows its row.

The direct road has no time for it.  "" in `dataset_sha256` means that nobody has
computed it; only this module's callers read or write it so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index.database import Database


def missing(db: Database, after: str, limit: int) -> list[tuple[str, str]]:
    """List instances without one behind a UID, in order: SOP Instance UID and path."""
    i = t.instances.c
    query = (
        sa.select(i.sop_instance_uid, i.path)
        .where(i.dataset_sha256 == "", i.sop_instance_uid > after)
        .order_by(i.sop_instance_uid)
        .limit(limit)
    )
    with db.read() as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


def still_missing(db: Database, sop_instance_uids: Sequence[str]) -> list[tuple[str, str]]:
    """Give those of these instances that are kept and have none: UID and path."""
    i = t.instances.c
    query = sa.select(i.sop_instance_uid, i.path).where(
        i.sop_instance_uid.in_(sop_instance_uids), i.dataset_sha256 == ""
    )
    with db.read() as connection:
        return [(row[0], row[1]) for row in connection.execute(query)]


def fill_in(db: Database, found: Mapping[str, tuple[str, str]]) -> None:
    """Note digests, by UID with the path that was read: only where the row still names that path.

    Whoever comes second changes nothing.
    """
    i = t.instances.c
    statement = (
        sa.update(t.instances)
        .where(
            i.sop_instance_uid == sa.bindparam("uid"),
            i.path == sa.bindparam("of"),
            i.dataset_sha256 == "",
        )
        .values(dataset_sha256=sa.bindparam("digest"))
    )
    rows = [
        {"uid": uid, "of": path, "digest": digest} for uid, (path, digest) in sorted(found.items())
    ]
    if rows:
        with db.write() as connection:
            connection.execute(statement, rows)
