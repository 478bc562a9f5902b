"""The end of an association that came over the direct road: its row and its event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.index import arrivals, events
from appliance.index.arrivals import Association
from appliance.index.database import Database
from appliance.index.states import Ending
from appliance.intake.tally import Tally, story


@dataclass(frozen=True, slots=True)
class Ended:
    """That an association ended, and what came over it."""

    id: str
    ending: Ending
    at: datetime
    tally: Tally


def tell(db: Database, ends: Sequence[tuple[Association, Ended]]) -> None:
    """Write how associations ended, once and in one transaction; IndexUnavailable."""
    with db.write() as connection:
        arrivals.note_ends(
            connection,
            [
                arrivals.AssociationEnd(
                    one.id, one.ending, one.at, one.tally.instances, one.tally.failures
                )
                for _, one in ends
            ],
        )
        told = [one for one in ends if one[1].tally.instances or one[1].tally.failures]
        events.append_all(connection, [_event(association, one) for association, one in told])


def _event(association: Association, ended: Ended) -> dict[str, object]:
    tally, studies = ended.tally, list(ended.tally.study_uids)
    return events.row(
        "association closed",
        story(
            tally,
            calling_ae_title=association.calling_ae_title,
            called_ae_title=association.called_ae_title,
            address=association.address,
            ending=ended.ending,
        ),
        ended.at,
        who=association.calling_ae_title,
        study_uid=studies[0] if len(studies) == 1 else "",
        association=association.id,
        called=association.called_ae_title,
        address=association.address,
        studies=studies,
        held=tally.held,
        conflicts=tally.conflicts,
    )
