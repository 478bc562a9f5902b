"""That something was erased, without a word that says what: a keyed hash, when, and by whom.

The key stands in the data folder, not in the index: who has only the index, or a backup,
cannot even test a Patient ID or a UID that he has in mind.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from appliance.index import schema as t

Kind = Literal["patient", "study", "whose"]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One; `erasure` is the act of a person that it belongs to."""

    erasure: str
    at: datetime
    who: str
    kind: str
    keyed_hash: str


def keyed_hash(key: bytes, kind: Kind, value: str) -> str:
    """Give the HMAC-SHA-256 of a Patient ID, of a Study Instance UID, or of both (`whose`)."""
    return hmac.new(key, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()


def whose(study_uid: str, patient_id: str | None) -> str:
    """Name a study with its patient; None where nobody knew who that was."""
    return f"{study_uid}/{(patient_id or '').strip()}"


def add(connection: sa.Connection, stones: Iterable[Tombstone]) -> None:
    """Add those that are not there yet."""
    c = t.tombstones.c
    for one in stones:
        values = {name: getattr(one, name) for name in Tombstone.__slots__}
        same = sa.select(c.id).where(
            c.erasure == one.erasure, c.kind == one.kind, c.keyed_hash == one.keyed_hash
        )
        if connection.scalar(same) is None:
            connection.execute(sa.insert(t.tombstones).values(values))


def found(connection: sa.Connection, hashes: Sequence[str]) -> list[Tombstone]:
    """List those with one of these hashes, the newest first."""
    c = t.tombstones.c
    query = _query().where(c.keyed_hash.in_(hashes)).order_by(c.at.desc(), c.id.desc())
    return [Tombstone(**row) for row in connection.execute(query).mappings()]


def everyone(connection: sa.Connection) -> list[Tombstone]:
    """List all of them, the oldest first."""
    rows = connection.execute(_query().order_by(t.tombstones.c.id)).mappings()
    return [Tombstone(**row) for row in rows]


def are_of(connection: sa.Connection, erasure: str) -> bool:
    """Say whether an erasure has come so far that its tombstones stand: its rows are gone."""
    query = sa.select(t.tombstones.c.id).where(t.tombstones.c.erasure == erasure)
    return connection.execute(query.limit(1)).first() is not None


def _query() -> sa.Select[Any]:
    return sa.select(*(t.tombstones.c[name] for name in Tombstone.__slots__))
