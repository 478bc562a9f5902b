"""What an erasure is about, as it stands in `trash/` until the erasure has ended.

It names what goes, which no one else can tell once the rows are gone; so it goes last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from appliance.disk import trash
from appliance.disk.layout import Layout
from appliance.errors import ErasureError
from appliance.index.erasure import Begun
from appliance.index.extent import Extent, Made, Subject, Whole
from appliance.index.reached import Received, Sender


@dataclass(frozen=True, slots=True)
class Journal:
    """One erasure; `begun` is None until all of it was marked as going."""

    id: str
    subject: Subject
    who: str
    at: datetime
    begun: Begun | None = None


def write(layout: Layout, journal: Journal) -> None:
    """Keep it, durably."""
    facts = asdict(journal) | {"at": journal.at.isoformat()}
    if facts["begun"] is not None:
        facts["begun"]["extent"]["uids"] = sorted(facts["begun"]["extent"]["uids"])
    trash.write_journal(layout, journal.id, facts)


def read(layout: Layout, erasure: str) -> Journal:
    """Read it back; ErasureError when it is not to be understood."""
    facts = trash.read_journal(layout, erasure)
    try:
        return Journal(
            erasure,
            Subject(**facts["subject"]),
            facts["who"],
            datetime.fromisoformat(facts["at"]),
            _begun(facts["begun"]) if facts["begun"] else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ErasureError(
            f"the journal of erasure {erasure} is not what this program writes: {error!r}",
            remedy="finish it with the version of Brookbox that began it",
        ) from error


def _begun(facts: dict[str, Any]) -> Begun:
    found = facts["extent"]
    lists = {
        "studies": tuple(Whole(**one) for one in found["studies"]),
        "results": tuple(Made(**one) for one in found["results"]),
        "jobs": tuple(found["jobs"]),
        "makers": tuple(found["makers"]),
        "streams": tuple(found["streams"]),
        "uids": frozenset(found["uids"]),
    }
    return Begun(
        Extent(**{**found, **lists}),
        tuple(Sender(**one) for one in facts["senders"]),
        tuple(Received(**one) for one in facts["destinations"]),
    )
