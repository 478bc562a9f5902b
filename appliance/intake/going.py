"""What comes of a study that is being erased, or that was erased before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from appliance.disk.layout import Layout
from appliance.erasure import key
from appliance.errors import StudyGoing
from appliance.index import catalog, events, tombstones
from appliance.index.database import Connection
from appliance.index.tombstones import Tombstone
from appliance.intake.arrived import Arrived

PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.1
T = TypeVar("T")


def when_gone(step: Callable[[], T], patience_seconds: float) -> T:
    """Do a step, again and again while its study is being erased.

    StudyGoing when the erasure does not end in time: it is not acknowledged then.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return step()
        except StudyGoing:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_LOOK_SECONDS)


class CameBack:
    """Tells, once for each study, that it had been erased before; it is kept like any other."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def tell(self, connection: Connection, arrived: Arrived) -> None:
        """Append the event when this is the first instance of a study of which there is one."""
        secret = key.read(self._layout)
        if secret is None:  # nothing was ever erased here
            return
        header = arrived.header
        if catalog.find_study(connection, header.study_uid) is not None:
            return
        study = tombstones.keyed_hash(secret, "study", header.study_uid)
        patient = tombstones.keyed_hash(secret, "patient", header.patient_id)
        if found := tombstones.found(connection, [study, patient]):
            of_it = [one for one in found if one.kind == "study"]
            events.append(
                connection, "erased before", _sentence((of_it or found)[0]), arrived.at,
                who=arrived.sender.calling_ae_title, study_uid=header.study_uid,
                erasure=(of_it or found)[0].erasure,
            )  # fmt: skip


def _sentence(stone: Tombstone) -> str:
    what = "This study" if stone.kind == "study" else "Another study of this patient"
    return (
        f"{what} had been erased at {stone.at:%Y-%m-%d %H:%M:%S} UTC (erasure {stone.erasure}). "
        "What was sent now is kept as new."
    )
