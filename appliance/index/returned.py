"""What an index that is replaced knows of erasures, and what of it the new one holds again.

A backup that was made before an erasure brings back what was erased since.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from appliance.index import schema as t
from appliance.index import tombstones
from appliance.index.database import Database
from appliance.index.tombstones import Tombstone, keyed_hash


@dataclass(frozen=True, slots=True)
class Remembered:
    """The tombstones of an index, and the studies that it held in spite of them or without."""

    stones: tuple[Tombstone, ...] = ()
    studies: frozenset[str] = frozenset()


def remember(db: Database) -> Remembered:
    """Read an index that is to be replaced, of any version; IndexUnavailable when damaged."""
    with db.read() as connection:
        known = sa.inspect(connection).get_table_names()
        if t.tombstones.name not in known:
            return Remembered()
        studies = connection.scalars(sa.select(t.studies.c.study_uid))
        return Remembered(tuple(tombstones.everyone(connection)), frozenset(studies))


def put_back(db: Database, before: Remembered) -> None:
    """Give an index the tombstones of the one before."""
    with db.write() as connection:
        tombstones.add(connection, before.stones)


def came_back(db: Database, key: bytes, before: Remembered) -> list[str]:
    """List studies that were erased after the last of them had come, and are here again.

    Not those that the index before held: they had been sent anew.
    """
    stones = {stone.keyed_hash: stone for stone in before.stones}  # the last one counts
    s, back = t.studies.c, []
    with db.read() as connection:
        rows = connection.execute(sa.select(s.study_uid, s.patient_id, s.last_received_at))
        for uid, patient_id, last_at in rows:
            mine = [stones.get(keyed_hash(key, "study", uid))]
            if patient_id:
                mine.append(stones.get(keyed_hash(key, "patient", patient_id)))
            if uid not in before.studies and any(one and one.at > last_at for one in mine):
                back.append(uid)
    return sorted(back)
